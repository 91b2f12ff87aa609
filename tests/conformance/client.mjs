// A real client for the client scenarios of the conformance suite: `node client.mjs WAY URL`.
//
// The suite starts a server for a scenario, runs this with its URL, and judges what reached it. WAY says what stands
// between: `direct` nothing, `serve` callgate over HTTP (`callgate serve --upstream URL`), `run` callgate over stdio
// (`callgate run --upstream URL`), where callgate itself is the HTTP client, `configured` callgate with a configuration
// (`callgate serve -c`), which gets access tokens for the server by itself, `agreed` the same, where a user authorises that
// in a browser: what a browser would do is done here, and `vouched` the same, where somebody else says who calls: the caller's
// identity provider, or the platform that callgate runs on. $CALLGATE is the program, $POLICY its policy.

import { p256 } from '@noble/curves/nist.js';
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import {
  Client,
  ClientCredentialsProvider,
  PrivateKeyJwtProvider,
  StreamableHTTPClientTransport,
} from '@modelcontextprotocol/client';
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio';

/** More often than any scenario wants it, nobody agrees: who asks for ever is found out. */
const MAX_AGREED = 8;

const [way, url] = process.argv.slice(2);
const scenario = process.env.MCP_CONFORMANCE_SCENARIO;
const revision = process.env.MCP_CONFORMANCE_PROTOCOL_VERSION ?? '2025-11-25';
const context = JSON.parse(process.env.MCP_CONFORMANCE_CONTEXT ?? '{}');
const callgate = (...words) => [...words, '-p', process.env.POLICY, '--state', 'memory:', '--upstream', url];

/** What a scenario asks of a client, once it is connected. */
const scenarios = {
  async initialize(client) {
    await client.listTools();
  },
  async tools_call(client) {
    await client.listTools();
    await client.callTool({ name: 'add_numbers', arguments: { a: 5, b: 3 } });
  },
  async 'request-metadata'(client) {
    await client.listTools();
  },
  async 'sse-retry'(client) {
    await client.listTools();
    await client.callTool({ name: 'test_reconnection', arguments: {} });
  },
  async 'sep-2322-client-request-state'(client) {
    await client.listTools();
    await Promise.all(['test_mrtr_echo_state', 'test_mrtr_unrelated'].map((name) => client.callTool({ name, arguments: {} })));
    await client.callTool({ name: 'test_mrtr_no_state', arguments: {} });
    // The server of the scenario leaves the `resultType` out; a client may take that or complain, but must not ask again.
    await client.callTool({ name: 'test_mrtr_no_result_type', arguments: {} }).catch(tell);
  },
  async 'json-schema-2020-12-preservation'(client) {
    const { tools } = await client.listTools();
    const schema = tools.find((tool) => tool.name === 'json_schema_2020_12_tool').inputSchema;
    await client.callTool({ name: 'json_schema_echo', arguments: { schema } });
  },
  async 'json-schema-ref-no-deref'(client) {
    await client.listTools();
  },
  async 'http-standard-headers'(client) {
    for (const { name } of (await client.listTools()).tools) await client.callTool({ name, arguments: {} });
    for (const { uri } of (await client.listResources()).resources) await client.readResource({ uri });
    for (const { name } of (await client.listPrompts()).prompts) await client.getPrompt({ name });
  },
  async 'http-custom-headers'(client) {
    await client.listTools();
    for (const call of context.toolCalls) await client.callTool(call);
  },
  async 'http-invalid-tool-headers'(client) {
    const values = { region: 'r', value: 'v', data: {}, items: [], nil: null, score: 1, field1: 'a', field2: 'b' };
    for (const { name } of (await client.listTools()).tools) {
      await client.callTool({ name, arguments: values }).catch(tell);
    }
  },
};

/** Whatever else an authorization scenario is about, a client lists the tools and calls each. */
async function useTools(client) {
  for (const { name } of (await client.listTools()).tools) {
    const result = await client.callTool({ name, arguments: {} });
    if (result.isError) throw new Error(JSON.stringify(result.content));
  }
}

/** What a client of the server's own shows, where the scenario wants something. */
function credentials() {
  const { client_id: clientId, client_secret: clientSecret, private_key_pem: privateKey, signing_algorithm: algorithm } = context;
  if (clientSecret) return new ClientCredentialsProvider({ clientId, clientSecret });
  if (privateKey) return new PrivateKeyJwtProvider({ clientId, privateKey, algorithm });
  return undefined;
}

/**
 * Keys one of which has signed a JWT by ES256, as a JWK set. The identity provider of the suite does not tell its own; two
 * keys can be told from a signature, and that of anybody else fits neither.
 */
function keysOf(token) {
  const [header, claims, signature] = token.split('.');
  const hash = createHash('sha256').update(`${header}.${claims}`).digest();
  const signed = p256.Signature.fromBytes(new Uint8Array(Buffer.from(signature, 'base64url')), 'compact');
  const half = (point, from) => Buffer.from(point.slice(from, from + 32)).toString('base64url');
  const keys = [0, 1].map((bit) => signed.addRecoveryBit(bit).recoverPublicKey(new Uint8Array(hash)).toBytes(false));
  return { keys: keys.map((point) => ({ kty: 'EC', crv: 'P-256', x: half(point, 1), y: half(point, 33) })) };
}

/** Serves a JSON document; gives its address, and what ends that. */
async function served(document) {
  const server = createServer((_, response) => response.setHeader('content-type', 'application/json').end(JSON.stringify(document)));
  await once(server.listen(0, '127.0.0.1'), 'listening');
  return [`http://127.0.0.1:${server.address().port}/`, () => server.close()];
}

/** Who callers are by the identity provider of the scenario, whose keys are at `jwks`. */
function identity(jwks) {
  const { sub } = JSON.parse(Buffer.from(context.idp_id_token.split('.')[1], 'base64url'));
  const grants = [{ grant: 'suite', claims: { sub }, principal: 'sub' }];
  return { issuer: context.idp_issuer, audience: context.idp_client_id, jwks, types: ['JWT'], algorithms: ['ES256'], grants };
}

/** By what authority the server of the scenario is called. */
function flow() {
  if (way === 'agreed') return 'authorization_code';
  if (way === 'configured') return 'client_credentials';
  return context.idp_id_token ? 'enterprise_managed' : 'workload_identity';
}

/** A configuration with the server of the scenario, in a directory of its own. */
function configuration(directory, jwks) {
  const write = (name, text) => {
    const path = join(directory, name);
    writeFileSync(path, text, { mode: 0o600 });
    return path;
  };
  const authorization = { flow: flow() };
  if (context.client_id) authorization.client_id = context.client_id;
  if (context.client_secret) authorization.client_secret = `file:${write('secret', context.client_secret)}`;
  if (context.private_key_pem) authorization.client_key = `file:${write('key.pem', context.private_key_pem)}`;
  if (context.idp_client_id) authorization.identity_provider = { client_id: context.idp_client_id };
  if (context.valid_jwt) authorization.assertion = `file:${write('assertion', context.valid_jwt)}`;
  const authorizations = { key: `file:${write('key', 'a-key-of-the-conformance-suite-for-tokens')}` };
  // The suite knows its client by this address, where the client has one.
  if (scenario === 'auth/basic-cimd') authorizations.client_document = 'https://conformance-test.local/client-metadata.json';
  const servers = { tested: { url, policy: process.env.POLICY, pin: 'off', authorization } };
  const grants = [{ name: 'suite', principal: 'service:suite', token: `file:${write('token', TOKEN)}`, servers: ['tested'] }];
  const lines = { listen: '127.0.0.1:0', state: 'memory:', servers, grants, authorizations };
  if (jwks) lines.identity = identity(jwks);
  return write('callgate.yaml', Object.entries(lines).map(([key, value]) => `${key}: ${JSON.stringify(value)}\n`).join(''));
}

const TOKEN = 'a-token-of-the-conformance-suite';

/** Starts a gateway; gives where it listens, and what ends it. */
async function listening(words) {
  const gateway = spawn(process.env.CALLGATE, words, { stdio: ['ignore', 'inherit', 'pipe'] });
  for await (const line of createInterface({ input: gateway.stderr })) {
    console.error(line);
    const address = line.match(/listening on (http:\S+)/)?.[1];
    if (address) {
      gateway.stderr.on('data', () => {}); // or it would stall once the pipe is full
      return [address, () => gateway.kill()];
    }
  }
  throw new Error('callgate did not listen');
}

function tell(error) {
  console.error(`client: ${error}`);
}

/** The address at which a caller is asked to authorise something, in whatever words it is said. */
function invitation(said) {
  return said.match(/http:[^"\\\s]+\/authorize\/begin\?ticket=[\w-]+/)?.[0];
}

/** What a person does with a browser: opens an address, agrees to what stands there, and is led on and back. */
async function agree(address) {
  const jars = {};
  const visit = async (place, method = 'GET') => {
    const { origin } = new URL(place);
    const headers = method === 'POST' ? { origin } : {};
    if (jars[origin]) headers.cookie = jars[origin];
    const page = await fetch(place, { method, headers, redirect: 'manual' });
    for (const cookie of page.headers.getSetCookie()) jars[origin] = cookie.split(';')[0];
    return page;
  };
  const form = (await (await visit(address)).text()).match(/<form method="post" action="([^"]+)"/);
  if (!form) throw new Error('there is nothing to agree to');
  let place = new URL(form[1], address);
  let page = await visit(place, 'POST');
  while (page.status >= 300 && page.status < 400) {
    place = new URL(page.headers.get('location'), place);
    page = await visit(place);
  }
  const text = await page.text();
  const said = text.match(/<p>(.*?)<\/p>/)?.[1];
  if (page.status !== 200) throw new Error(`the browser ends at ${place.pathname}: ${page.status} ${said}`);
}

/** What makes a transport to the scenario's server by the way that was asked for, and what ends what was started for it. */
async function connect() {
  switch (way) {
    case 'direct':
      return [() => new StreamableHTTPClientTransport(new URL(url), { authProvider: credentials() }), () => {}];
    case 'run':
      return [
        () => new StdioClientTransport({ command: process.env.CALLGATE, args: callgate('run'), env: process.env, stderr: 'inherit' }),
        () => {},
      ];
    case 'serve': {
      const [address, end] = await listening(callgate('serve', '--listen', '127.0.0.1:0'));
      return [() => new StreamableHTTPClientTransport(new URL(address)), end];
    }
    case 'agreed':
    case 'configured':
    case 'vouched': {
      const directory = mkdtempSync(join(tmpdir(), 'callgate-conformance-'));
      const shown = context.idp_id_token;
      const [jwks, close] = shown ? await served(keysOf(shown)) : [];
      const [address, end] = await listening(['serve', '-c', configuration(directory, jwks)]);
      const requestInit = { headers: { Authorization: `Bearer ${shown ?? TOKEN}` } };
      return [
        () => new StreamableHTTPClientTransport(new URL(`${address}/tested`), { requestInit }),
        () => {
          end();
          close?.();
          rmSync(directory, { recursive: true });
        },
      ];
    }
    default:
      throw new Error(`no way called ${way}`);
  }
}

/** A client that says yes to whatever it is asked. */
function willing() {
  const elicitation = way === 'agreed' ? { form: {}, url: {} } : {};
  const client = new Client(
    { name: 'conformance-client', version: '1.0.0' },
    {
      capabilities: { roots: {}, sampling: {}, elicitation },
      versionNegotiation: { mode: revision >= '2026' ? { pin: revision } : 'legacy' },
    },
  );
  client.setRequestHandler('elicitation/create', async ({ params }) => {
    if (params.mode !== 'url') return { action: 'accept', content: { confirmed: true } };
    await agree(params.url);
    return { action: 'accept' };
  });
  client.setRequestHandler('roots/list', async () => ({ roots: [] }));
  client.setRequestHandler('sampling/createMessage', async () => ({
    role: 'assistant',
    content: { type: 'text', text: 'yes' },
    model: 'none',
  }));
  return client;
}

/** Does what a scenario asks, from the beginning; gives the address that somebody has to open before it can be done. */
async function attempt(transport) {
  const client = willing();
  try {
    await client.connect(transport);
    await (scenario.startsWith('auth/') ? useTools : scenarios[scenario])(client);
  } catch (error) {
    tell(error);
    const address = way === 'agreed' && invitation(JSON.stringify([error.message, error.data]));
    if (!address) throw error;
    return address;
  } finally {
    await client.close().catch(tell);
  }
}

const [transport, end] = await connect();
try {
  for (let round = 0, address; (address = await attempt(transport())) !== undefined; round++) {
    if (round === MAX_AGREED) throw new Error('somebody is asked to agree for ever');
    await agree(address);
  }
} catch (error) {
  tell(error);
  process.exitCode = 1;
} finally {
  end();
}
