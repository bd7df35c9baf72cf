// The host's page: the official host side of MCP Apps around the panel. `ask` and `tell` are the test's.
import { AppBridge, PostMessageTransport } from "@modelcontextprotocol/ext-apps/app-bridge";

window.host = async (url, theme, result) => {
  const frame = document.createElement("iframe");
  frame.setAttribute("sandbox", "allow-scripts");
  frame.title = "panel";
  frame.style.cssText = "border:0;width:100%;height:300px";
  document.body.replaceChildren(frame);
  const bridge = new AppBridge(null, { name: "test-host", version: "1" }, { serverTools: {} }, { hostContext: { theme } });
  window.bridge = bridge;
  bridge.oncalltool = (params) => window.ask(params.name, params.arguments || {});
  bridge.onsizechange = ({ height }) => { if (height) frame.style.height = `${height}px`; };
  const ready = new Promise((resolve) => { bridge.oninitialized = resolve; });
  await bridge.connect(new PostMessageTransport(frame.contentWindow, frame.contentWindow));
  frame.src = url;
  await ready;
  await bridge.sendToolInput({ arguments: {} });
  await bridge.sendToolResult(result);
};
