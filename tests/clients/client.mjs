// The TypeScript SDKs' own clients, driven by lines, like client.py:
//
//     client.mjs --sdk 1|2 --era legacy|stateless (--url URL | --sse URL | -- COMMAND [ARG…])
//
// 1 is `@modelcontextprotocol/sdk` 1.x, which speaks the legacy era only; 2 is `@modelcontextprotocol/client`. The packages
// are those of `$CALLGATE_CLIENTS/node`.

import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const require = createRequire(`${process.env.CALLGATE_CLIENTS}/node/`);
const option = (name) => (process.argv.includes(name) ? process.argv[process.argv.indexOf(name) + 1] : undefined);
const PATIENCE = 60_000;
const STATELESS = "2026-07-28";

const asked = [];
const elicited = (request) => {
  asked.push("elicitation");
  const names = Object.keys(request.params.requestedSchema.properties);
  return { action: "accept", content: Object.fromEntries(names.map((name) => [name, true])) };
};
const sampled = () => {
  asked.push("sampling");
  return { role: "assistant", model: "none", content: { type: "text", text: "said it" } };
};

const info = { name: "callgate-test", version: "1" };
const capabilities = { elicitation: {}, sampling: {} };

function first() {
  const { Client } = require("@modelcontextprotocol/sdk/client/index.js");
  const types = require("@modelcontextprotocol/sdk/types.js");
  const client = new Client(info, { capabilities });
  client.setRequestHandler(types.ElicitRequestSchema, elicited);
  client.setRequestHandler(types.CreateMessageRequestSchema, sampled);
  return {
    client,
    stdio: require("@modelcontextprotocol/sdk/client/stdio.js").StdioClientTransport,
    http: require("@modelcontextprotocol/sdk/client/streamableHttp.js").StreamableHTTPClientTransport,
    sse: require("@modelcontextprotocol/sdk/client/sse.js").SSEClientTransport,
    call: (params, options) => client.callTool(params, undefined, options),
  };
}

function second() {
  const all = require("@modelcontextprotocol/client");
  const mode = option("--era") === "stateless" ? { pin: STATELESS } : "legacy";
  const client = new all.Client(info, { capabilities, versionNegotiation: { mode } });
  client.setRequestHandler("elicitation/create", elicited);
  client.setRequestHandler("sampling/createMessage", sampled);
  return {
    client,
    stdio: require("@modelcontextprotocol/client/stdio").StdioClientTransport,
    http: all.StreamableHTTPClientTransport,
    sse: all.SSEClientTransport,
    call: (params, options) => client.callTool(params, options),
  };
}

const sdk = option("--sdk") === "1" ? first() : second();
const { client } = sdk;

function transport() {
  if (option("--url")) return new sdk.http(new URL(option("--url")));
  if (option("--sse")) return new sdk.sse(new URL(option("--sse")));
  const [command, ...args] = process.argv.slice(process.argv.indexOf("--") + 1);
  return new sdk.stdio({ command, args, env: process.env });
}

async function answer(order) {
  asked.length = 0;
  if (order.list) return { tools: (await client.listTools()).tools.map((tool) => tool.name) };
  if (order.resource) {
    const listed = (await client.listResources()).resources.map((resource) => resource.uri);
    return { listed, text: (await client.readResource({ uri: order.resource })).contents[0].text };
  }
  if (order.prompt) {
    const listed = (await client.listPrompts()).prompts.map((prompt) => prompt.name);
    const got = await client.getPrompt({ name: order.prompt, arguments: order.arguments });
    return { listed, text: got.messages[0].content.text };
  }
  const steps = [];
  const options = { timeout: PATIENCE, onprogress: ({ progress }) => steps.push(progress) };
  let cancelled = false;
  if (order.cancel_after) {
    const giving = new AbortController();
    options.signal = giving.signal;
    setTimeout(() => {
      cancelled = true;
      giving.abort("enough");
    }, order.cancel_after * 1000);
  }
  try {
    const result = await sdk.call({ name: order.call, arguments: order.arguments }, options);
    return { result, steps, asked: [...asked] };
  } catch (error) {
    if (cancelled) return { cancelled };
    throw error;
  }
}

const say = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);

await client.connect(transport(), { timeout: PATIENCE });
say({ ready: client.getNegotiatedProtocolVersion?.() ?? "legacy" });
for await (const line of createInterface({ input: process.stdin })) {
  try {
    say(await answer(JSON.parse(line)));
  } catch (error) {
    say({ error: String(error?.message ?? error) });
  }
}
await client.close();
process.exit(0);
