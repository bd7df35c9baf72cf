// The TypeScript SDK of the first generation (@modelcontextprotocol/sdk), which speaks up to 2025-11-25.
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { ElicitRequestSchema } from '@modelcontextprotocol/sdk/types.js';
import { capabilities, clientInfo, headers, obey, wanted, yes } from './ts_remote.mjs';

const transport = wanted.url
  ? new StreamableHTTPClientTransport(new URL(wanted.url), headers)
  : new StdioClientTransport(wanted);
let revision;
const told = transport.setProtocolVersion?.bind(transport);
transport.setProtocolVersion = (version) => {
  revision = version;
  told?.(version);
};

const client = new Client(clientInfo, { capabilities });
client.setRequestHandler(ElicitRequestSchema, yes);
await client.connect(transport);
await obey(client, revision);
