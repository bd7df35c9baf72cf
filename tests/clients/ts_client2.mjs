// The TypeScript SDK of the second generation (@modelcontextprotocol/client), which speaks 2026-07-28 too.
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio';
import { capabilities, clientInfo, headers, obey, wanted, yes } from './ts_remote.mjs';

const transport = wanted.url
  ? new StreamableHTTPClientTransport(new URL(wanted.url), headers)
  : new StdioClientTransport(wanted);
const client = new Client(clientInfo, { capabilities, ...(wanted.mode && { versionNegotiation: { mode: wanted.mode } }) });
client.setRequestHandler('elicitation/create', yes);
await client.connect(transport);
await obey(client, client.getNegotiatedProtocolVersion());
