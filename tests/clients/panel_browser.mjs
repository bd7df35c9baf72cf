// A real browser looks at the panel: inside the official host side of MCP Apps, and on the page of `ccn-mcp open`.
// Told by one JSON argument; prints one JSON document of what it saw. Anything that is not ours is an outside request.
import { mkdirSync } from "node:fs";
import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { build } from "esbuild";
import { chromium } from "playwright-core";

const told = JSON.parse(process.argv[2]);
const WAIT_MS = 60000;
const HOST = "http://host.test/", VIEW = "http://view.test/panel";
const HOST_POLICY = "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'none'";
const seen = { outside: [], complaints: [], calls: [] };
mkdirSync(told.pictures, { recursive: true });

const browser = await chromium.launch({ executablePath: told.chromium, args: ["--no-sandbox"] });
const context = await browser.newContext({ viewport: { width: 760, height: 900 } });
context.setDefaultTimeout(WAIT_MS);
const page = await context.newPage();
page.on("console", (message) => { if (["error", "warning"].includes(message.type())) seen.complaints.push(message.text()); });
page.on("pageerror", (error) => seen.complaints.push(error.message));
const picture = (name) => page.screenshot({ path: `${told.pictures}/${name}.png`, fullPage: true });
const text = (view, selector) => view.locator(selector).innerText();

// What a keyboard can do, in either place: arrows between the views, Tab into them.
async function keys(view) {
  await view.locator("#tab-instances").focus();
  const order = [];
  for (const key of ["ArrowRight", "ArrowRight", "ArrowRight", "ArrowRight", "ArrowLeft", "Home"]) {
    await page.keyboard.press(key);
    order.push(await view.locator(":focus").innerText());
    await view.locator("[role=tabpanel]:not([hidden])").waitFor();
  }
  await page.keyboard.press("Tab");
  order.push(await view.locator(":focus").getAttribute("id"));
  return order;
}
// Every measure over time, chosen by keyboard in the real select.
async function over(view, prefix) {
  await view.locator("#tab-drift").click();
  const drawn = {};
  for (const name of ["drift", "ccc", "t1", "r0"]) {
    await view.locator("#measure").selectOption(name);
    const first = view.locator("#drift svg.chart").first();
    await first.waitFor();
    drawn[name] = { heading: await text(view, "#drift h2"), label: await first.getAttribute("aria-label"),
      dots: await view.locator("#drift svg.chart").evaluateAll((all) => all.map((one) => one.querySelectorAll("circle").length)),
      heights: await first.locator("circle").evaluateAll((all) => all.map((dot) => dot.getAttribute("cy"))),
      lines: await first.locator("path").evaluateAll((all) => all.map((line) => line.getAttribute("class"))),
      focus: await view.locator(":focus").getAttribute("id").catch(() => "") };
    await picture(`${prefix}-over-${name}`);
  }
  const options = await view.locator("#measure option").count();
  const talks = [await view.locator("#drift svg.chart").count()];
  await view.locator("#talk").selectOption({ index: 1 });
  talks.push(await view.locator("#drift svg.chart").count());
  await view.locator("#talk").selectOption("");
  await view.locator("#measure").selectOption("drift");
  await view.locator("#tab-traits").click();
  const sparks = await view.locator("#traits tbody svg.spark path.own").count();
  return { drawn, options, talks, sparks };
}
// From words to the message, by keyboard alone.
async function follow(view) {
  await view.locator("#tab-record").focus();
  await page.keyboard.press("Enter");
  await view.locator("#found h2").waitFor();
  await view.locator("#words").focus();
  await page.keyboard.type(told.words);
  await page.keyboard.press("Enter");
  const link = view.locator("#found li a").filter({ hasText: "message" }).first();
  await link.waitFor();
  const looked = await view.locator("#found p").first().innerText();
  await link.focus();
  await page.keyboard.press("Enter");
  await view.locator("article.meant").waitFor();
  return { looked, said: await view.locator("article.meant pre").textContent(), focused: await view.locator(":focus").getAttribute("class"),
    elements: await view.locator("article.meant img, article.meant script").count() };
}
async function views(view, prefix) {
  const found = {};
  for (const name of ["instances", "drift", "traits"]) {
    await view.locator(`#tab-${name}`).click();
    await view.locator(`#${name} h2`).first().waitFor();
    found[name] = await text(view, `#${name}`);
    await picture(`${prefix}-${name}`);
  }
  return found;
}
const colour = (view) => view.locator("body").evaluate((body) => getComputedStyle(body).backgroundColor);

async function hosted() {
  const client = new Client({ name: "host", version: "1" }, {
    capabilities: { extensions: { "io.modelcontextprotocol/ui": { mimeTypes: ["text/html;profile=mcp-app"] } } }, versionNegotiation: { mode: told.mode } });
  await client.connect(new StdioClientTransport(told.server));
  const tool = (await client.listTools()).tools.find((item) => item._meta?.ui?.resourceUri);
  const [panel] = (await client.readResource({ uri: tool._meta.ui.resourceUri })).contents;
  const made = await build({ entryPoints: [told.host], bundle: true, write: false, format: "iife", logLevel: "silent", platform: "browser" });
  const pages = { [HOST]: ["<!doctype html><title>host</title><body></body>", ""], [VIEW]: [panel.text, HOST_POLICY] };
  await page.route("**", (route) => {
    const [body, policy] = pages[route.request().url()] || [];
    if (body === undefined) { seen.outside.push(route.request().url()); return route.abort(); }
    return route.fulfill({ contentType: "text/html", body, headers: policy ? { "content-security-policy": policy } : {} });
  });
  await page.exposeFunction("ask", async (name, given) => { seen.calls.push(name); return client.callTool({ name, arguments: given }); });
  await page.goto(HOST);
  await page.addScriptTag({ content: made.outputFiles[0].text });
  const result = await client.callTool({ name: tool.name, arguments: {} });
  const found = { mime: panel.mimeType };
  for (const theme of ["light", "dark"]) {
    await page.evaluate(([url, look, first]) => window.host(url, look, first), [VIEW, theme, result]);
    const view = page.frameLocator("iframe");
    await view.locator("#check", { hasText: "Assurance" }).waitFor();
    found[theme] = { ...await views(view, `host-${theme}`), colour: await colour(view), check: await text(view, "#check"), head: await text(view, "#head") };
  }
  const view = page.frameLocator("iframe");
  await page.evaluate(() => window.bridge.setHostContext({ theme: "light" }));
  await view.locator(":root[data-theme=light]").waitFor({ state: "attached" });
  found.turned = await colour(view);
  Object.assign(found, await over(view, "host"));
  found.keys = await keys(view);
  found.followed = await follow(view);
  await picture("host-message");
  await page.evaluate(() => window.bridge.teardownResource({}));
  await page.unroute("**");
  await client.close();
  return found;
}

async function opened() {
  const own = new URL(told.url).origin;
  await page.route("**", (route) => {
    if (new URL(route.request().url()).origin === own) return route.continue();
    seen.outside.push(route.request().url());
    return route.abort();
  });
  const found = {};
  await page.goto(told.url);
  for (const theme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme: theme });
    await page.locator("#check", { hasText: "Assurance" }).waitFor();
    found[theme] = { ...await views(page, `page-${theme}`), colour: await colour(page) };
  }
  Object.assign(found, await over(page, "page"));
  found.keys = await keys(page);
  found.followed = await follow(page);
  await picture("page-message");
  found.address = page.url();
  await page.reload();
  await page.locator("article.meant").waitFor();
  found.again = await page.locator("article.meant pre").textContent();
  found.hit = await page.evaluate(() => [window.hit === undefined, document.cookie]);
  await page.setViewportSize({ width: 340, height: 700 });
  await page.locator("#tab-traits").click();
  await page.locator("#traits h2").first().waitFor();
  found.overflow = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  found.tallest = await page.locator("#traits tbody th").evaluateAll((all) => Math.max(...all.map((cell) => cell.offsetHeight)));
  await picture("page-narrow");
  return found;
}

try {
  seen.found = told.url ? await opened() : await hosted();
} finally {
  await browser.close();
}
process.stdout.write(JSON.stringify(seen));
