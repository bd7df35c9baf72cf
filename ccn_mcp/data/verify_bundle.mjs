// Check a bundle that `ccn-mcp export --bundle` wrote. One file, Node 18 or newer, nothing to install.
//
//     node verify_bundle.mjs FOLDER [--key VKEY] [--head SIZE:ROOT]
//
// The same check as verify_bundle.py, in the same order and the same words, written once more so that two programs
// can be compared. It reads the folder, writes nothing and needs no network. Exit status 0: everything fits; 1: not.

import { createHash, createPublicKey, verify as verifyEd25519 } from "node:crypto";
import { closeSync, fstatSync, lstatSync, openSync, readdirSync, readSync, realpathSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const WIDTH = 256, STEP = 112; // entries in a full file; bytes of an entry, 110, after their length
const GENESIS = 0, KEY = 5, REDACTION = 6, ANCHOR = 7, ERASABLE = [1, 2, 3, 8, 9, 10, 11, 12];
const FILE_MAX = 2 ** 24;
const NOT_CHECKED = ["README.txt", "verify_bundle.mjs", "verify_bundle.py"];
const HINT = "Without --key, a key is what the log says of itself. Not checked: README, scripts, stamps, truth.";
const BASE64 = "(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?";
const HEAD_LINES = [["ccn-log/[0-9a-f]{32}", "the log's name"], ["[1-9][0-9]{0,14}", "the number of entries"],
  ["[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=", "the root, 32 bytes in base64"]];
const SIGNED_LINES = [["", "an empty line"], [`\xe2\x80\x94 [^ +]+ ${BASE64}`, "a signature"]];

export class Fault extends Error {}
const need = (good, fault) => { if (!good) throw new Fault(fault); };
const whole = (pattern, text) => new RegExp(`^(?:${pattern})$`).test(text);
const sha256 = (...parts) => parts.reduce((hash, part) => hash.update(part), createHash("sha256")).digest();
const ZERO = Buffer.from([0]), ONE = Buffer.from([1]);

// ---- 1. Files

function tileName(index, width) {
  const digits = (number) => String(number % 1000).padStart(3, "0");
  let name = digits(index);
  while (index >= 1000) name = `x${digits((index = Math.floor(index / 1000)))}/${name}`;
  return width === WIDTH ? name : `${name}.p/${width}`;
}

function* tiles(count) {
  for (let at = 0; at < count; at += WIDTH) yield [at / WIDTH, Math.min(WIDTH, count - at)];
}

function listFiles(folder, below = "") {
  const found = [];
  for (const item of readdirSync(join(folder, below), { withFileTypes: true })) {
    const name = below ? `${below}/${item.name}` : item.name;
    if (item.isDirectory()) found.push(...listFiles(folder, name));
    else { need(item.isFile(), `${name}: no regular file`); found.push(name); }
  }
  return found.sort();
}

function checkNames(found, size) {
  const wanted = new Set(["head", "keys"]), there = new Set(found);
  for (const tile of tiles(size)) wanted.add(`payload/${tileName(...tile)}`).add(`tile/entries/${tileName(...tile)}`);
  for (let level = 0, count = size; count; level++, count = Math.floor(count / WIDTH))
    for (const tile of tiles(count)) wanted.add(`tile/${level}/${tileName(...tile)}`);
  for (const name of [...wanted].sort()) need(there.has(name), `${name}: missing`);
  const places = new Map([...wanted].map((name) => [name.split(".p/")[0], name]));
  for (const name of found) {
    if (wanted.has(name) || NOT_CHECKED.includes(name)) continue;
    const place = name.split(".p/")[0];
    need(!places.has(place), `${name}: a second one beside ${places.get(place)}`);
    need(whole("checkpoint|checkpoints/[1-9][0-9]{0,14}|anchors/[1-9][0-9]{0,14}\\.(note|tsr)", name),
      `${name}: does not belong to a bundle of ${size} entries`);
  }
}

class File { // read from the start, a piece at a time
  constructor(folder, name) {
    need(lstatSync(join(folder, name), { throwIfNoEntry: false })?.isFile(), `${name}: missing`);
    this.handle = openSync(join(folder, name), "r");
    this.left = fstatSync(this.handle).size;
    this.ahead = Buffer.alloc(0);
  }
  take(count) {
    const wanted = Math.max(0, Math.min(count, this.left)), short = wanted - this.ahead.length;
    this.left -= count;
    if (short > 0) {
      const more = Buffer.alloc(Math.max(short, 65536));
      this.ahead = Buffer.concat([this.ahead, more.subarray(0, readSync(this.handle, more))]);
    }
    const data = this.ahead.subarray(0, wanted);
    this.ahead = this.ahead.subarray(wanted);
    return data;
  }
  close() { closeSync(this.handle); }
}

function read(folder, name, most = FILE_MAX) {
  const file = new File(folder, name);
  try {
    need(file.left <= most, `${name}: longer than ${most} bytes`);
    return file.take(file.left);
  } finally { file.close(); }
}

// ---- 2. Heads

function readHead(folder, file, signed) {
  const lines = read(folder, file).toString("latin1").split("\n");
  need(lines.pop() === "", `${file}: line ${lines.length + 1}: ends without a line feed`);
  const rules = signed ? [...HEAD_LINES, ...SIGNED_LINES] : [...HEAD_LINES];
  while (signed && rules.length < lines.length) rules.push(SIGNED_LINES[1]);
  rules.forEach(([pattern, what], at) =>
    need(at < lines.length && whole(pattern, lines[at]), `${file}: line ${at + 1}: should be ${what}`));
  need(lines.length === rules.length, `${file}: line ${rules.length + 1}: should be the end`);
  return { file, origin: lines[0], size: Number(lines[1]), root: Buffer.from(lines[2], "base64"),
    text: Buffer.from(lines.slice(0, 3).map((line) => line + "\n").join("")),
    signatures: lines.slice(4).map((line) => line.split(" ").slice(1)) };
}

// ---- 3. Entries, their content and their tiles

function treeHash(hashes) {
  while (hashes.length > 1) {
    const above = [];
    for (let at = 0; at < hashes.length; at += 2)
      above.push(at + 1 < hashes.length ? sha256(ONE, hashes[at], hashes[at + 1]) : hashes[at]);
    hashes = above;
  }
  return hashes[0];
}

function checkTile(folder, level, index, hashes) {
  const name = `tile/${level}/${tileName(index, hashes.length)}`, data = read(folder, name, 32 * hashes.length);
  hashes.forEach((expected, at) => need(expected.equals(data.subarray(32 * at, 32 * at + 32)),
    `${name}: hash ${at}, from entry ${(index * WIDTH + at) * WIDTH ** level} on, is not that of the entries`));
}

function readLog(folder, head, sizes) {
  const log = { folder, size: head.size, sizes, storeId: Buffer.from(head.origin.slice(-32), "hex"),
    leaf: Buffer.alloc(32), full: [], row: [], roots: new Map(), erased: [], special: [], stamps: new Map() };
  for (const [index, width] of tiles(log.size)) {
    const name = tileName(index, width), first = index * WIDTH;
    const data = read(folder, `tile/entries/${name}`, STEP * width), payload = new File(folder, `payload/${name}`);
    log.row = [];
    try {
      for (let at = 0; at < width; at++)
        readEntry(log, first + at, data.subarray(STEP * at, STEP * at + STEP), payload, name);
      need(!payload.left, `payload/${name}: ${payload.left} bytes after entry ${first + width - 1}`);
    } finally { payload.close(); }
    checkTile(folder, 0, index, log.row);
    if (width === WIDTH) log.full.push(treeHash(log.row));
  }
  for (let level = 1, hashes = log.full; hashes.length; level++) {
    const above = [];
    for (const [index, width] of tiles(hashes.length)) {
      const row = hashes.slice(index * WIDTH, index * WIDTH + width);
      checkTile(folder, level, index, row);
      if (width === WIDTH) above.push(treeHash(row));
    }
    hashes = above;
  }
  return log;
}

function readEntry(log, seq, data, file, name) {
  let where = `tile/entries/${name}: entry ${seq}`;
  need(data.length === STEP && data.readUInt16BE(0) === 110, `${where}: not 110 bytes after their length`);
  const entry = data.subarray(2), kind = entry.readUInt16BE(44);
  need(entry.toString("latin1", 0, 12) === "ccn.entry/1\n" && log.storeId.equals(entry.subarray(12, 28)),
    `${where}: not an entry of this log`);
  need(entry.readBigUInt64BE(28) === BigInt(seq) && log.leaf.equals(entry.subarray(46, 78)),
    `${where}: does not follow the entry before it`);
  log.leaf = sha256(ZERO, entry);
  log.row.push(log.leaf);
  if (log.sizes.has(seq + 1)) log.roots.set(seq + 1, treeHash([...log.full, treeHash(log.row)]));
  where = `payload/${name}: entry ${seq}`;
  const mark = file.take(1);
  if (mark.equals(ZERO)) { log.erased.push([seq, kind]); return; }
  need(mark.equals(ONE), `${where}: begins with neither 0 nor 1`);
  const parts = [file.take(16)];
  for (let n = 0; n < 2; n++) {
    const prefix = file.take(8), length = prefix.length === 8 ? Number(prefix.readBigUInt64BE()) : 0;
    need(file.left >= length, `${where}: the file ends inside of it`);
    parts.push(prefix, file.take(length));
  }
  need(sha256("ccn.commit/1\n", ...parts).equals(entry.subarray(78)), `${where}: the content is not what was recorded`);
  if ([GENESIS, KEY, REDACTION, ANCHOR].includes(kind)) {
    let body = null;
    try { body = JSON.parse(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(parts[2])); } catch {}
    need(body && typeof body === "object" && !Array.isArray(body), `${where}: the body is no JSON object`);
    log.special.push([seq, kind, body]);
    if (kind === ANCHOR)
      log.stamps.set(`anchors/${seq}.note`, Buffer.from(String(body.note))).set(`anchors/${seq}.tsr`, parts[4]);
  }
}

function checkContent(log, files) {
  const genesis = log.special.filter(([, kind]) => kind === GENESIS).map(([seq]) => seq);
  need(genesis.length === 1 && genesis[0] === 0, "entry 0: the log does not begin with its one genesis entry");
  const told = new Map(log.special.filter(([, kind]) => kind === REDACTION)
    .map(([seq, , body]) => [String(body.target), seq]));
  for (const [seq, kind] of log.erased)
    need(ERASABLE.includes(kind) && told.get(String(seq)) > seq,
      `payload: entry ${seq}: its content is gone and no later entry erased it`);
  const names = new Set([...log.stamps.keys(), ...files.filter((name) => name.startsWith("anchors/"))]);
  for (const name of [...names].sort()) {
    const data = read(log.folder, name);
    need(log.stamps.has(name) && data.equals(log.stamps.get(name)), `${name}: no entry holds this`);
  }
}

// ---- 4. Signatures, strictly: no second encodings and no points of small order; Node does the rest

const P = 2n ** 255n - 19n, Y8 = 0x7a03ac9277fdc74ec6cc392cfa53202a0f67100d760b3cba4fd84d3d706a17c7n;
const SMALL_ORDER = [0n, 1n, P - 1n, Y8, P - Y8];
const proper = (data) => {
  const y = BigInt(`0x${Buffer.from(data).reverse().toString("hex")}`) & (2n ** 255n - 1n);
  return y < P && !SMALL_ORDER.includes(y);
};

export function verify(key, message, signature) {
  if (key.length !== 32 || signature.length !== 64 || !proper(key) || !proper(signature.subarray(0, 32))) return false;
  const der = Buffer.concat([Buffer.from("302a300506032b6570032100", "hex"), key]);
  return verifyEd25519(null, message, createPublicKey({ key: der, format: "der", type: "spki" }), signature);
}

// ---- 5. Keys

function publicOf(key, log) {
  const match = /^(ccn-log\/[0-9a-f]{32})\+([0-9a-f]{8})\+([A-Za-z0-9+/]{44})$/.exec(key);
  const data = match ? Buffer.from(match[3], "base64") : Buffer.alloc(1);
  const right = match && match[1] === log && sha256(`${log}\n`, data).toString("hex", 0, 4) === match[2];
  return right && data[0] === 1 ? data.subarray(1) : null;
}

function keyChain(log, origin, wanted) {
  const past = log.special[0][2].restored_from, own = Number(past?.entries ?? 0);
  let named = log.special.filter(([seq, kind]) => kind === KEY && seq >= own).map(([seq, , body]) => [seq, body, body.key]);
  const begun = log.special[0][2].signed_by;
  if (begun != null) named = [[0, {}, begun], ...named];
  const listed = named.map(([seq, , key]) => `${seq} ${key}\n`).join("").split("\n");
  const lines = read(log.folder, "keys").toString("latin1").split("\n");
  for (let at = 0; at < Math.max(listed.length, lines.length); at++)
    need(listed[at] === lines[at], `keys: line ${at + 1}: not what the entries say`);
  wanted ??= named.filter(([, body, key]) => key === named[0][2] || body.event === "lost").at(-1)?.[2];
  const chain = [];
  for (const [seq, body, key] of named) {
    if (chain.length ? chain.length === 1 && key === wanted && body.event === "first" : key !== wanted) continue;
    const bytes = publicOf(String(key), origin), signature = String(body.signature), position = Buffer.alloc(8);
    need(bytes, `entry ${seq}: names no key of this log`);
    position.writeBigUInt64BE(BigInt(seq));
    const message = Buffer.concat([Buffer.from("ccn.key/1\n"), log.storeId, position, Buffer.from(key)]);
    need(!chain.length || (whole(BASE64, signature) && !chain.some(([, known]) => known === key) &&
      verify(chain.at(-1)[2], message, Buffer.from(signature, "base64"))),
      `entry ${seq}: the key that was due has not signed this change of key`);
    chain.push([seq, key, bytes]);
  }
  return chain;
}

function checkSignatures(head, chain) {
  const due = chain.findLastIndex(([seq]) => seq < head.size), signers = [];
  head.signatures.forEach(([name, encoded], at) => {
    const data = Buffer.from(encoded, "base64");
    chain.forEach(([, key, bytes], place) => {
      if (!key.startsWith(`${name}+${data.toString("hex", 0, 4)}+`)) return;
      need(verify(bytes, head.text, data.subarray(4)), `${head.file}: line ${at + 5}: the signature does not fit`);
      signers.push(place);
    });
  });
  if (signers.includes(due)) return;
  const late = signers.filter((place) => place < due).map((place) => chain[place + 1][0]);
  need(!late.length, `${head.file}: signed by a key that entry ${Math.min(...late)} had replaced`);
  need(false, `${head.file}: not signed by the key that was due`);
}

// ---- 6. All of it

export function check(folder, key, known) {
  need(known === undefined || whole("[1-9][0-9]{0,14}:[0-9a-f]{32,64}", known), "--head: not SIZE:ROOT");
  const [knownSize, knownRoot] = (known ?? "0:").split(":");
  const head = readHead(folder, "head", false), files = listFiles(folder);
  checkNames(files, head.size);
  let notes = files.filter((name) => name.startsWith("checkpoint")).map((name) => readHead(folder, name, true));
  const log = readLog(folder, head, new Set([head.size, Number(knownSize), ...notes.map((note) => note.size)]));
  const root = log.roots.get(log.size);
  need(root.equals(head.root), `head: line 3: the root here is ${root.toString("hex")}`);
  for (const note of notes) {
    need(note.origin === head.origin, `${note.file}: line 1: the head of another log`);
    need(log.roots.has(note.size), `${note.file}: line 2: the bundle ends at ${log.size}`);
    need(["checkpoint", `checkpoints/${note.size}`].includes(note.file), `${note.file}: line 2: not its name`);
    need(note.root.equals(log.roots.get(note.size)), `${note.file}: line 3: the entries have another root`);
  }
  checkContent(log, files);
  const chain = keyChain(log, head.origin, key);
  need(chain.length || key === undefined, "--key: the log names no such key");
  notes = notes.filter((note) => !chain.length || note.size > chain[0][0]);
  for (const note of notes) checkSignatures(note, chain);
  const sizes = notes.map((note) => note.size), signed = Math.max(0, ...sizes);
  for (const [at] of chain.slice(1))
    need(at >= signed || sizes.includes(at), `checkpoints/${at}: missing: the head that the key before entry ${at} signed last`);
  need(notes.length || key === undefined, "--key: no head in this bundle is signed with it");
  const here = log.roots.get(Number(knownSize))?.toString("hex");
  need(known === undefined || here?.startsWith(knownRoot), "--head: not a head of this log");
  const level = known ? 3 : key ? 2 : 1;
  const levels = ["", "complete", "signed by the key that you gave", "contains the head that you kept"];
  return `ok: level ${level}, ${levels[level]}; signed to ${signed} of ${log.size}, ${log.erased.length} erased\n` +
    `log    ${head.origin}\nhead   ${log.size}:${root.toString("hex")}\nkey    ${chain.at(-1)?.[1] ?? ""}\n${HINT}\n`;
}

export function answer(folder, key, known) { // status and text, as the command line gives them
  try { return [0, check(folder, key, known)]; } catch (fault) {
    if (!(fault instanceof Fault)) throw fault;
    return [1, `NOT AS IT WAS WRITTEN\n${fault.message}\n`];
  }
}

function main([folder, ...rest]) {
  const options = {};
  for (let at = 0; at < rest.length; at += 2) options[rest[at]] = rest[at + 1];
  const odd = Object.entries(options).some(([name, value]) => !["--key", "--head"].includes(name) || value === undefined);
  if (!folder || folder.startsWith("-") || odd) {
    process.stderr.write("usage: verify_bundle.mjs FOLDER [--key VKEY] [--head SIZE:ROOT]\n");
    return 2;
  }
  const [status, text] = answer(folder, options["--key"], options["--head"]);
  process.stdout.write(text);
  return status;
}

const started = process.argv[1] ? pathToFileURL(realpathSync(process.argv[1])).href : ""; // not imported, as tests do
if (import.meta.url === started) process.exitCode = main(process.argv.slice(2));
