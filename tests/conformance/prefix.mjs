// What a client of many servers would do that knows them to be one: puts a server's name before the names that it sends, and
// takes it off those that it is told. So the suite, which knows its tools by their own names, can be run against `/mcp`.
//
//     node prefix.mjs URL PREFIX      shows the token in CALLGATE_SUITE; prints on stderr `prefix listening on http://…/mcp`
//
// Nothing else is changed. It judges nothing: what is wrong with an answer is the suite's to find.

import http from "node:http";

const [target, prefix] = [new URL(process.argv[2]), process.argv[3]];
const ENCODED = /^=\?base64\?(.*)\?=$/;
const LISTS = ["tools", "prompts", "resources", "resourceTemplates"];
/** Of one connection only, or of a length that may be another. */
const OWN = ["connection", "content-length", "host", "keep-alive", "transfer-encoding"];

const isNamed = (method) => method === "tools/call" || method === "prompts/get";

/** A client's message as it would be sent to many servers. */
function outward(message) {
  const { method, params } = message ?? {};
  if (isNamed(method) && typeof params?.name === "string") params.name = prefix + params.name;
  if (method === "completion/complete" && typeof params?.ref?.name === "string") params.ref.name = prefix + params.ref.name;
  return message;
}

/** A server's message as a single one would send it. */
function inward(message) {
  for (const list of LISTS) {
    for (const item of Array.isArray(message?.result?.[list]) ? message.result[list] : []) {
      if (typeof item?.name === "string" && item.name.startsWith(prefix)) item.name = item.name.slice(prefix.length);
    }
  }
  return message;
}

/** A text with each message in it changed; as it is, where it holds none. */
function changed(text, change) {
  try {
    const messages = JSON.parse(text);
    return JSON.stringify(Array.isArray(messages) ? messages.map(change) : change(messages));
  } catch {
    return text;
  }
}

/** `Mcp-Name` repeats the name. */
function mirrored(name) {
  const encoded = ENCODED.exec(name);
  if (!encoded) return prefix + name;
  return `=?base64?${Buffer.concat([Buffer.from(prefix), Buffer.from(encoded[1], "base64")]).toString("base64")}?=`;
}

const without = (headers) => Object.fromEntries(Object.entries(headers).filter(([name]) => !OWN.includes(name)));

const server = http.createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = changed(Buffer.concat(chunks).toString(), outward);
  const headers = without(request.headers);
  // Whoever calls us by another name would call the gateway so.
  const there = (name) => name?.replace(new RegExp(`:${server.address().port}$`), `:${target.port}`);
  [headers.host, headers.origin] = [there(request.headers.host), there(request.headers.origin)];
  if (!headers.origin) delete headers.origin;
  headers.authorization = process.env.CALLGATE_SUITE;
  if (isNamed(headers["mcp-method"]) && headers["mcp-name"]) headers["mcp-name"] = mirrored(headers["mcp-name"]);
  if (body) headers["content-length"] = Buffer.byteLength(body);
  const options = { method: request.method, headers, agent: false };
  const asked = http.request(target, options, (answer) => {
    response.writeHead(answer.statusCode, without(answer.headers));
    response.flushHeaders();
    const isStream = answer.headers["content-type"]?.startsWith("text/event-stream");
    let rest = "";
    answer.setEncoding("utf8");
    answer.on("data", (text) => {
      rest += text;
      if (!isStream) return;
      const lines = rest.split("\n");
      rest = lines.pop();
      const line = (line) => (line.startsWith("data: ") ? `data: ${changed(line.slice(6), inward)}\n` : `${line}\n`);
      response.write(lines.map(line).join(""));
    });
    answer.on("end", () => response.end(isStream ? rest : changed(rest, inward)));
    answer.on("error", () => response.destroy());
  });
  asked.on("error", () => response.destroy());
  response.on("close", () => asked.destroy());
  asked.end(body);
});

server.listen(0, "127.0.0.1", () => console.error(`prefix listening on http://127.0.0.1:${server.address().port}/mcp`));
