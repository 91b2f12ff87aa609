// Looks at the catalog's pages in a real browser, with script and without, light and dark, narrow and printed.
//
//     node drive.mjs CALLGATE MODULES WORK [CAPTURES [CATALOG]]
//
// CALLGATE is the binary, MODULES where playwright-core is installed, WORK a directory for the catalog and for screenshots,
// CAPTURES a directory of captured servers (the three of the running example are looked at where they are there), CATALOG one
// that was built from those three themselves.
import { spawn, spawnSync } from "node:child_process";
import { createRequire } from "node:module";
import { existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const [callgate, modules, work, captures, asked] = process.argv.slice(2);
const installed = createRequire(join(modules, "package.json"));
const { chromium } = installed("playwright-core");
const axe = readFileSync(installed.resolve("axe-core/axe.min.js"), "utf8");
const here = dirname(fileURLToPath(import.meta.url));
let checks = 0;
function check(holds, what) {
  if (!holds) throw new Error(what);
  checks += 1;
}

rmSync(work, { recursive: true, force: true });
mkdirSync(join(work, "screenshots"), { recursive: true });
const catalog = join(work, "catalog.db");
const real = captures && existsSync(captures);
const taken = [join(here, "captures.json"), join(here, "hostile.json"), ...(real ? [captures] : [])];
const built = spawnSync(callgate, ["catalog", "build", "--captures", ...taken, "-o", catalog], { encoding: "utf8" });
check(existsSync(catalog), `the catalog was not built: ${built.stderr}`);

// Serves a catalog until it is killed.
async function serve(catalog) {
  const server = spawn(callgate, ["catalog", "serve", "--catalog", catalog, "--listen", "127.0.0.1:0"], { stdio: ["ignore", "ignore", "pipe"] });
  const root = await new Promise((resolve, reject) => {
    let said = "";
    server.stderr.on("data", (data) => {
      said += data;
      const found = said.match(/on (http:\/\/\S+)\n/);
      if (found) resolve(found[1]);
    });
    server.on("exit", () => reject(new Error(`callgate ended: ${said}`)));
  });
  return { server, root };
}
let { server, root } = await serve(catalog);
const program = ["/usr/bin/chromium", "/usr/bin/chromium-browser"].find(existsSync);
check(program, "Debian's chromium is not there: apt-get install chromium");
const browser = await chromium.launch({ executablePath: program, args: ["--no-sandbox"] });

// A page with everything that goes wrong on it written down.
async function open(path, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1100, height: 900 }, ...options });
  const page = await context.newPage();
  const wrong = [];
  page.on("console", (message) => message.type() === "error" && wrong.push(message.text()));
  page.on("pageerror", (error) => wrong.push(String(error)));
  page.on("dialog", (dialog) => { wrong.push(`a dialog: ${dialog.message()}`); dialog.dismiss(); });
  page.on("request", (request) => request.url().startsWith(root) || wrong.push(`asks elsewhere: ${request.url()}`));
  const response = await page.goto(new URL(path, root).href);
  check(response.status() === 200, `${path} answers ${response.status()}`);
  check(wrong.length === 0, `${path}: ${wrong.join("; ")}`);
  return { page, context, wrong, shot: (name) => page.screenshot({ path: join(work, "screenshots", `${name}.png`), fullPage: options.full ?? false }) };
}

// What axe-core finds, and besides: landmarks, one main heading, headings without gaps, names for what is operated, contrast, no sideways scrolling.
async function look(page, what) {
  const wrong = await page.evaluate(() => {
    const wrong = [];
    for (const one of ["header", "nav", "main", "footer", "h1"]) {
      if (document.querySelectorAll(one).length !== 1) wrong.push(`not one <${one}>`);
    }
    if (!document.documentElement.lang) wrong.push("no language");
    let before = 1;
    for (const heading of document.querySelectorAll("h1,h2,h3")) {
      const level = Number(heading.tagName[1]);
      if (level > before + 1) wrong.push(`a heading is left out before ${heading.textContent}`);
      before = level;
    }
    for (const field of document.querySelectorAll("input,select")) if (!field.labels.length) wrong.push("a field without a label");
    for (const link of document.querySelectorAll("a")) if (!link.textContent.trim()) wrong.push("a link without words");
    const number = (color) => (color.match(/[\d.]+/g) ?? []).map(Number);
    const light = ([r, g, b]) => {
      const part = (c) => (c / 255 <= 0.03928 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4);
      return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
    };
    const behind = (element) => {
      for (let at = element; at; at = at.parentElement) {
        const color = number(getComputedStyle(at).backgroundColor);
        if (color.length === 3 || color[3] > 0) return color;
      }
      return [255, 255, 255];
    };
    for (const element of document.querySelectorAll("body *")) {
      if (![...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim())) continue;
      const style = getComputedStyle(element);
      const color = number(element instanceof SVGElement ? style.fill : style.color);
      const [a, b] = [light(color), light(behind(element))];
      const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
      if (contrast < 4.5) wrong.push(`${element.tagName} ${element.className.baseVal ?? element.className}: contrast ${contrast.toFixed(2)}`);
    }
    if (document.documentElement.scrollWidth > window.innerWidth + 1) wrong.push("it scrolls sideways");
    return [...new Set(wrong)];
  });
  check(wrong.length === 0, `${what}: ${wrong.join("; ")}`);
  await page.evaluate(axe);
  const found = await page.evaluate(async () => {
    const { violations } = await axe.run(document, { resultTypes: ["violations"] });
    return violations.map(({ id, help, nodes }) => `${id} (${help}): ${nodes.slice(0, 3).map((node) => node.html.slice(0, 120)).join(" ")}`);
  });
  check(found.length === 0, `${what}: axe finds ${found.join("; ")}`);
}

const files = "server/~40acme~2ffiles";
try {
  const places = ["", "servers", "high-risk", "search?q=file", "class/Destructive", "signal/path", "attacks", "attacks/fetch-mcp-ssrf", files, "high-risk/~40acme~2ffiles", `${files}/delete_file`, `${files}/run_command`];
  for (const [scheme, width] of [["light", 1100], ["dark", 360]]) {
    for (const place of places) {
      const { page, context, shot } = await open(place, { colorScheme: scheme, viewport: { width, height: 900 } });
      await look(page, `${place || "/"} ${scheme} ${width}`);
      await shot(`${place.replaceAll(/[^a-z]+/gi, "-") || "index"}-${scheme}`);
      await context.close();
    }
  }

  // Without script everything is there, and the search works.
  {
    const { page, context } = await open("", { javaScriptEnabled: false });
    await page.fill("input[name=q]", "delete");
    await page.selectOption("select[name=level]", "critical");
    await page.click("form button");
    check((await page.textContent("table")).includes("delete_file"), "the search finds nothing without script");
    await page.click("text=delete_file");
    check((await page.textContent("h1")) === "delete_file", "a hit leads elsewhere");
    check((await page.locator("figure.code code").first().textContent()).includes("delete_file"), "the policy is missing");
    check((await page.locator("figure.code button").count()) === 0, "there is a button that does nothing");
    // From the tool to an attack that applies, to its class, and back to the attack.
    await page.click("main a[href*='attacks/filesystem-mcp-escaperoute']");
    check((await page.textContent("main")).includes("What happened"), "the attack's page is elsewhere");
    check((await page.locator("figure.code code").first().textContent()).includes("path_within"), "the attack has no policy");
    await page.click("main p a");
    check(new URL(page.url()).hash === "#paths-that-lead-out", `the class is at ${page.url()}`);
    check(await page.locator("#paths-that-lead-out").isVisible(), "the class has no place on the index");
    await page.goto(new URL("high-risk", root).href);
    check(!(await page.locator("details pre").first().isVisible()), "a folded policy is open");
    await page.locator("details summary").first().click();
    check(await page.locator("details pre").first().isVisible(), "a policy does not unfold without script");
    await context.close();
  }
  // With script a policy is copied as it stands.
  {
    const { page, context, shot } = await open(`${files}/delete_file`, { full: true, permissions: ["clipboard-read", "clipboard-write"] });
    await page.locator("figure.code button").first().click();
    await page.waitForFunction(() => document.querySelector("figure.code button").textContent === "Copied");
    const copied = await page.evaluate(() => navigator.clipboard.readText());
    check(copied === (await page.locator("figure.code code").first().textContent()), "another text was copied");
    // By keyboard: the first stop leads to the content.
    await page.reload();
    await page.keyboard.press("Tab");
    check((await page.evaluate(() => document.activeElement.className)) === "skip", "the first stop is not the skip link");
    await page.emulateMedia({ media: "print" });
    check(!(await page.isVisible("nav")), "the navigation is printed");
    check(!(await page.isVisible("figure.code button")), "buttons are printed");
    await shot("print");
    await page.goto(new URL("high-risk", root).href);
    check((await page.locator("details pre").first().boundingBox())?.height > 20, "what is folded is not printed");
    await context.close();
  }
  // What a hostile server says is shown, and does nothing.
  {
    const list = await open("servers");
    await list.page.click("text=<script>");
    check((await list.page.title()) !== "owned", "a name was run");
    check((await list.page.textContent("blockquote")).includes("\\u{202e}"), "what hides is not shown");
    await list.page.click("text=onload");
    check((await list.page.textContent("main")).includes("\\u{200b}hidden"), "what hides is not shown");
    check((await list.page.locator("main script, main img, main svg[onload]").count()) === 0, "markup came through");
    check(list.wrong.length === 0, list.wrong.join("; "));
    await look(list.page, "the hostile tool");
    await list.shot("hostile-light");
    await list.context.close();
  }
  for (const [path, type] of [["llms.txt", "text/plain"], [`${files}/delete_file.json`, "application/json"], [`${files}/delete_file.md`, "text/markdown"],
    ["attacks.json", "application/json"], ["attacks/fetch-mcp-ssrf.json", "application/json"], ["attacks/fetch-mcp-ssrf.md", "text/markdown"]]) {
    const answer = await fetch(new URL(path, root));
    check(answer.ok && answer.headers.get("content-type").startsWith(type), `${path} is no ${type}`);
    check(answer.headers.get("content-security-policy").startsWith("default-src 'none'"), `${path} has no policy`);
  }
  const rebound = spawnSync("curl", ["-s", "-o", "/dev/null", "-w", "%{http_code}", "-H", "Host: evil.test", root], { encoding: "utf8" });
  check(rebound.error || rebound.stdout === "403", "a strange host is answered");

  // The three servers of the running example: from captures, and as they were asked in their cells.
  async function example(what) {
    const servers = await (await fetch(new URL("servers.json", root))).json();
    const having = [];
    let seen = 0;
    for (const [name, version, tools] of [["healthomics", "0.0.37", 73], ["api", "1.5.6", 2], ["dataprocessing", "0.2.2", 36]].map(
      ([name, ...rest]) => [`awslabs.aws-${name}-mcp-server`, ...rest])) {
      const current = servers.find((server) => server.name === name);
      check(current, `${name} is not among the servers`);
      // The newest version is at the name alone.
      const place = current.version === version ? `server/${name}` : `server/${name}~40${version}`;
      const { page, context, shot } = await open(place);
      await look(page, name);
      const told = await (await fetch(new URL(`${place}.json`, root))).json();
      const text = await page.textContent("main");
      await shot(`${what}-${name.replace("awslabs.", "")}`);
      await context.close();
      // The one that needs the network is there without tools where there was none.
      if (told.server.problem && name.includes("-api-")) continue;
      seen += 1;
      check(told.tools.length === tools, `${name} at ${version} has ${told.tools.length} tools`);
      check(/\b[ABCDF] /.test(text) && text.includes("policy."), `${name} has no grade or no whole policy`);
      check(text.includes(`uvx ${name}@${version}`), `${name} has no line to start it`);
      if (!told.tools.some((tool) => tool.tool === "StartAHORun")) continue;
      having.push(name);
      const start = await (await fetch(new URL(`${place}/StartAHORun.json`, root))).json();
      check(start.risk.risk === "Execute" && start.risk.level === "high", `StartAHORun is ${JSON.stringify(start.risk)}`);
    }
    check(having.join() === "awslabs.aws-healthomics-mcp-server", `StartAHORun is on ${having}`);
    const { page, context, shot } = await open("server/awslabs.aws-healthomics-mcp-server/StartAHORun", { full: true });
    await look(page, "StartAHORun");
    check(/Execute/.test(await page.locator("main .badge").first().textContent()), "StartAHORun is not called Execute");
    const hits = await (await fetch(new URL("search.json?q=StartAHORun", root))).json();
    const exact = hits.tools.filter((hit) => hit.tool === "StartAHORun").map((hit) => hit.server);
    check(exact.join() === "awslabs.aws-healthomics-mcp-server", `StartAHORun is found on ${exact}`);
    await shot(`${what}-StartAHORun`);
    await context.close();
    return seen;
  }
  let seen = real ? await example("captured") : 0;
  if (asked && existsSync(asked)) {
    server.kill();
    ({ server, root } = await serve(asked));
    seen += await example("asked");
  }
  console.log(`pages: ${checks} checks in chromium ${browser.version()}${seen ? `, ${seen} of them with servers of the example` : ""}; screenshots in ${join(work, "screenshots")}`);
} finally {
  await browser.close();
  server.kill();
}
