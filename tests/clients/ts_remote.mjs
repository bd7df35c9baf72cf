// The client end of tests/clients/test_typescript.py: one JSON request a line on stdin, one JSON answer a line on stdout.
import { createInterface } from 'node:readline';

const METHODS = {
  'tools/list': 'listTools',
  'tools/call': 'callTool',
  'resources/list': 'listResources',
  'resources/templates/list': 'listResourceTemplates',
  'resources/read': 'readResource',
  'prompts/list': 'listPrompts',
  'prompts/get': 'getPrompt',
};

const say = (answer) => process.stdout.write(JSON.stringify(answer) + '\n');

// What the person answers when the server asks: yes.
export const yes = async () => ({ action: 'accept', content: { erase: true } });
export const clientInfo = { name: 'ccn-test', version: '1.0.0' };
export const capabilities = { elicitation: { form: {} } };

// argv: how the server is reached, as {command, args, env, cwd} or {url, token}, and the client's mode.
export const wanted = JSON.parse(process.argv[2]);
export const headers = { requestInit: { headers: { authorization: `Bearer ${wanted.token}` } } };

export async function obey(client, revision) {
  say({ revision, server: client.getServerVersion(), instructions: client.getInstructions() });
  for await (const line of createInterface({ input: process.stdin })) {
    const { method, params } = JSON.parse(line);
    try {
      say({ result: await client[METHODS[method]](params) });
    } catch (error) {
      say({ error: `${error.name} ${error.code}: ${error.message}` });
    }
  }
  await client.close();
}
