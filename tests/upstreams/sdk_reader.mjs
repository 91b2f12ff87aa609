// An upstream on the TypeScript SDK (`@modelcontextprotocol/sdk` 1.x): it reads as that SDK does, and runs whatever tool it
// is asked for. `--stdio` or `--http PORT` (printed as `listening PORT`); over HTTP behind the SDK's own Express app, whose
// body parser is the first to read. Every call that it runs is one line of `--log`: `{"t": "ran", "tool", "arguments"}`.
// `--tools FILE` is the list it shows. The packages are those of `$CALLGATE_CLIENTS/node` (tests/clients/setup.sh).

import { randomUUID } from "node:crypto";
import { appendFileSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(`${process.env.CALLGATE_CLIENTS}/node/`);
const { Server } = require("@modelcontextprotocol/sdk/server/index.js");
const { StdioServerTransport } = require("@modelcontextprotocol/sdk/server/stdio.js");
const { StreamableHTTPServerTransport } = require("@modelcontextprotocol/sdk/server/streamableHttp.js");
const { createMcpExpressApp } = require("@modelcontextprotocol/sdk/server/express.js");
const { CallToolRequestSchema, ListToolsRequestSchema } = require("@modelcontextprotocol/sdk/types.js");

const option = (name) => process.argv[process.argv.indexOf(name) + 1];
const log = (entry) => appendFileSync(option("--log"), `${JSON.stringify(entry)}\n`);
const { tools } = JSON.parse(readFileSync(option("--tools"), "utf8"));

function reader() {
  const server = new Server({ name: "sdk-reader", version: "1" }, { capabilities: { tools: {} } });
  server.setRequestHandler(ListToolsRequestSchema, () => ({ tools }));
  server.setRequestHandler(CallToolRequestSchema, ({ params }) => {
    log({ t: "ran", tool: params.name, arguments: params.arguments });
    return { content: [{ type: "text", text: `ran ${params.name}` }] };
  });
  return server;
}

if (process.argv.includes("--stdio")) {
  await reader().connect(new StdioServerTransport());
} else {
  const sessions = new Map();
  const app = createMcpExpressApp();
  app.all("/mcp", async (request, response) => {
    let transport = sessions.get(request.headers["mcp-session-id"]);
    if (!transport) {
      transport = new StreamableHTTPServerTransport({
        sessionIdGenerator: randomUUID,
        onsessioninitialized: (id) => void sessions.set(id, transport),
      });
      await reader().connect(transport);
    }
    await transport.handleRequest(request, response, request.body);
  });
  const listener = app.listen(Number(option("--http")), "127.0.0.1", () => {
    console.log(`listening ${listener.address().port}`);
  });
}
