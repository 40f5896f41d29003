// As sdk2.py, by npm's @modelcontextprotocol/client; MCP_CLIENT is its folder, MCP_MODE auto or legacy.

import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const dist = pathToFileURL(process.env.MCP_CLIENT + "/dist/");
const { Client, StreamableHTTPClientTransport } = await import(new URL("index.mjs", dist));
const { StdioClientTransport } = await import(new URL("stdio.mjs", dist));

const [first, ...rest] = process.argv.slice(2);
const transport = first.startsWith("http")
  ? new StreamableHTTPClientTransport(new URL(first))
  : new StdioClientTransport({ command: first, args: rest, env: process.env, cwd: process.cwd() });
const client = new Client(
  { name: "test", version: "1" },
  { versionNegotiation: { mode: process.env.MCP_MODE } },
);
await client.connect(transport);

async function answer({ op, name, arguments: given }) {
  switch (op) {
    case "revision":
      return client.getNegotiatedProtocolVersion();
    case "list": {
      const { tools } = await client.listTools();
      return Object.fromEntries(tools.map((tool) => [tool.name, tool]));
    }
    case "call": {
      const progress = [];
      const onprogress = ({ message }) => progress.push(message);
      const result = await client.callTool({ name, arguments: given }, { onprogress });
      return { ...result, progress };
    }
    default: {
      const controller = new AbortController();
      const onprogress = () => controller.abort("enough");
      try {
        await client.callTool({ name, arguments: given }, { onprogress, signal: controller.signal });
        return { cancelled: false };
      } catch {
        return { cancelled: controller.signal.aborted };
      }
    }
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await answer(JSON.parse(line))));
}
await client.close();
