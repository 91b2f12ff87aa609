// A real client for the client scenarios of the conformance suite: `node client.mjs WAY URL`.
//
// The suite starts a server for a scenario, runs this with its URL, and judges what reached it. WAY says what stands
// between: `direct` nothing, `serve` callgate over HTTP (`callgate serve --upstream URL`), `run` callgate over stdio
// (`callgate run --upstream URL`), where callgate itself is the HTTP client, and `configured` callgate with a configuration
// (`callgate serve -c`), which gets access tokens for the server by itself. $CALLGATE is the program, $POLICY its policy.

import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
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

// Whoever is the server's client gets the token: without one, none of its tools would be listed.
for (const flow of ['basic', 'jwt']) {
  scenarios[`auth/client-credentials-${flow}`] = async (client) => {
    const { tools } = await client.listTools();
    for (const { name } of tools) await client.callTool({ name, arguments: {} });
  };
}

/** What a client of the server's own shows, where the scenario wants something. */
function credentials() {
  const { client_id: clientId, client_secret: clientSecret, private_key_pem: privateKey, signing_algorithm: algorithm } = context;
  if (clientSecret) return new ClientCredentialsProvider({ clientId, clientSecret });
  if (privateKey) return new PrivateKeyJwtProvider({ clientId, privateKey, algorithm });
  return undefined;
}

/** A configuration with the server of the scenario, in a directory of its own. */
function configuration(directory) {
  const write = (name, text) => {
    const path = join(directory, name);
    writeFileSync(path, text, { mode: 0o600 });
    return path;
  };
  const secret = context.client_secret
    ? { client_secret: `file:${write('secret', context.client_secret)}` }
    : { client_key: `file:${write('key.pem', context.private_key_pem)}` };
  const authorization = { flow: 'client_credentials', client_id: context.client_id, ...secret };
  const servers = { tested: { url, policy: process.env.POLICY, pin: 'off', authorization } };
  const grants = [{ name: 'suite', principal: 'service:suite', token: `file:${write('token', TOKEN)}`, servers: ['tested'] }];
  const lines = { listen: '127.0.0.1:0', state: 'memory:', servers, grants };
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

/** A transport to the scenario's server by the way that was asked for, and what ends what was started for it. */
async function connect() {
  switch (way) {
    case 'direct':
      return [new StreamableHTTPClientTransport(new URL(url), { authProvider: credentials() }), () => {}];
    case 'run':
      return [
        new StdioClientTransport({ command: process.env.CALLGATE, args: callgate('run'), env: process.env, stderr: 'inherit' }),
        () => {},
      ];
    case 'serve': {
      const [address, end] = await listening(callgate('serve', '--listen', '127.0.0.1:0'));
      return [new StreamableHTTPClientTransport(new URL(address)), end];
    }
    case 'configured': {
      const directory = mkdtempSync(join(tmpdir(), 'callgate-conformance-'));
      const [address, end] = await listening(['serve', '-c', configuration(directory)]);
      const requestInit = { headers: { Authorization: `Bearer ${TOKEN}` } };
      const transport = new StreamableHTTPClientTransport(new URL(`${address}/tested`), { requestInit });
      return [
        transport,
        () => {
          end();
          rmSync(directory, { recursive: true });
        },
      ];
    }
    default:
      throw new Error(`no way called ${way}`);
  }
}

const client = new Client(
  { name: 'conformance-client', version: '1.0.0' },
  {
    capabilities: { roots: {}, sampling: {}, elicitation: {} },
    versionNegotiation: { mode: revision >= '2026' ? { pin: revision } : 'legacy' },
  },
);
client.setRequestHandler('elicitation/create', async () => ({ action: 'accept', content: { confirmed: true } }));
client.setRequestHandler('roots/list', async () => ({ roots: [] }));
client.setRequestHandler('sampling/createMessage', async () => ({
  role: 'assistant',
  content: { type: 'text', text: 'yes' },
  model: 'none',
}));

const [transport, end] = await connect();
try {
  await client.connect(transport);
  await scenarios[scenario](client);
} catch (error) {
  tell(error);
  process.exitCode = 1;
} finally {
  await client.close().catch(tell);
  end();
}
