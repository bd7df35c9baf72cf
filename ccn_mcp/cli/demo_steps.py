"""The demo's steps. Each does something real, shows the answer in short, and checks what it says of it."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass, field
from typing import Any, Final

from ccn_mcp import data
from ccn_mcp.cli import demo_forgery as forgery
from ccn_mcp.cli.demo_stage import Json, Peer, Stage, claim
from ccn_mcp.cli.output import minute, one_line
from ccn_mcp.domain.character import Vector
from ccn_mcp.domain.plate import Plate, parse_plate

MODEL: Final = "demo-model"
BLOCK: Final = 18
"""Turns that one client records before it is the other's turn."""

SEARCHED: Final = "Yorick"
FORGED: Final = "Horace"
DRIFTS: Final = ((-0.085, "watch"), (-0.11, "recheck"), (-0.112, "reinit"))
"""How far the third instance moves from the baseline in every trait, and what has to follow."""


@dataclass(slots=True)
class Cast:
    """Who and what the steps share."""

    first: Peer
    second: Peer
    plate: Plate
    turns: list[Json]
    conversation: str = ""
    instances: list[str] = field(default_factory=list)
    receipt: str = ""
    seqs: list[int] = field(default_factory=list)
    head: str = ""


async def open_cast(stage: Stage) -> Cast:
    """Two client processes, each with a server process of its own, on one store."""
    stage.begin(
        "Two clients, one store",
        "Two MCP client processes start, as Claude Desktop and Claude Code would. Each starts its own ccn-mcp "
        "server, and both servers use one new file in a temporary folder. One client speaks the older MCP "
        "protocol, the other the newer one.",
    )
    first = await Peer.start(stage, "desktop-demo", "legacy")
    try:
        second = await Peer.start(stage, "code-demo", "2026-07-28")
    except BaseException:
        await first.leave()
        raise
    turns = [json.loads(line) for line in data.read("dialogue.jsonl").decode().splitlines()]
    return Cast(first, second, parse_plate(data.read("example_plate.md")), turns)


async def connect(stage: Stage, cast: Cast) -> None:
    """Both see the tools."""
    stage.show(f"store: {stage.db}")
    await asyncio.gather(cast.first.ready(), cast.second.ready())
    for peer in (cast.first, cast.second):
        stage.show(f"{peer.name}: MCP {peer.protocol}, {len(peer.tools)} tools")
        claim("load_plate" in peer.tools, f"{peer.name} does not see load_plate")
    claim(cast.second.protocol == "2026-07-28", "the second client does not speak 2026-07-28")
    claim(cast.first.protocol != cast.second.protocol, "both clients speak the same revision")
    stage.facts["protocols"] = [cast.first.protocol, cast.second.protocol]


async def set_plate(stage: Stage, cast: Cast) -> None:
    """The example Plate, set through the node."""
    from ccn_mcp.app import node_of
    from ccn_mcp.node.context import Caller
    from ccn_mcp.settings import Settings

    stage.begin(
        "The Plate",
        "The Plate is the document that every session starts from. No client can set it: you do, with ccn-mcp "
        "plate set FILE. Here the demo does it for you, with the example that comes with the program.",
    )
    async with node_of(Settings(stage.db, config_dir=stage.config), Caller(source="cli")) as node:
        done = await node.set_plate(cast.plate)
    claim(done.plate.digest == cast.plate.digest and done.seq is not None, "the Plate was not set")
    stage.show(f"{done.plate.name} {done.plate.version}, SHA-256 {done.plate.digest[:16]}…, entry {done.seq}")
    stage.facts["plate"] = {"name": done.plate.name, "digest": done.plate.digest, "entry": done.seq}


async def load(stage: Stage, cast: Cast) -> None:
    """Both clients load it; the first opens a third instance."""
    stage.begin(
        "Loading the Plate",
        "Each session calls load_plate and gets the Plate, recent history and its ids, as prose. Three sessions "
        "open: one in each client, then a second one in the first client.",
    )
    opened = await cast.first.call("load_plate", model=MODEL, title="Hamlet")
    cast.conversation = opened["meta"]["ccn/conversation_id"]
    same = {"model": MODEL, "conversation_id": cast.conversation}
    others = [await cast.second.call("load_plate", **same), await cast.first.call("load_plate", **same)]
    for answer in (opened, *others):
        claim("You are working as Quire" in answer["text"], "load_plate did not deliver the Plate's text")
        cast.instances.append(answer["meta"]["ccn/instance_id"])
        stage.show(f"{cast.instances[-1]}  {len(answer['text']):,} characters of context")
    claim(len(set(cast.instances)) == 3, "the sessions are not three instances")
    stage.facts |= {"conversation_id": cast.conversation, "instances": list(cast.instances)}


async def record(stage: Stage, cast: Cast) -> None:
    """All turns, in blocks, by both clients in turn; one retry."""
    total = len(cast.turns)
    stage.begin(
        "Recording",
        f"The two clients take turns recording a conversation of {total} messages (scenes from Hamlet), "
        f"{BLOCK} at a time. Each message becomes one entry in one chain of hashes, on disk before the call "
        "returns.",
    )
    numbers: list[int] = []
    by_peer = {cast.first.name: 0, cast.second.name: 0}
    for start in range(0, total, BLOCK):
        peer = (cast.first, cast.second)[start // BLOCK % 2]
        calls = [_recording(cast, n) for n in range(start, min(start + BLOCK, total))]
        answers = (await peer.ask({"calls": calls}))["results"]
        for answer in answers:
            claim("error" not in answer, f"record_message answered: {answer.get('error')}")
            numbers.append(answer["result"]["n"])
            cast.seqs.append(answer["result"]["seq"])
            cast.head = answer["result"]["head"]
        by_peer[peer.name] += len(answers)
    claim(numbers == list(range(1, total + 1)), "the messages are not numbered 1 to the end")
    again = (await cast.second.ask(_recording(cast, 0)))["result"]
    claim(again["already_recorded"] and again["seq"] == cast.seqs[0], "a retry was recorded twice")
    stage.show(*(f"{name} recorded {count}" for name, count in by_peer.items()))
    stage.show(
        "message 1 sent again by the other client with the same key: already recorded, nothing doubled",
        f"head of the log: {cast.head}",
    )
    stage.facts |= {"messages": total, "recorded_by": by_peer, "head": cast.head}


def _recording(cast: Cast, index: int) -> Json:
    turn = cast.turns[index]
    return {
        "tool": "record_message",
        "arguments": {
            "role": turn["role"],
            "content": turn["content"],
            "conversation_id": cast.conversation,
            "idempotency_key": f"demo-{index + 1}",
        },
    }


async def read(stage: Stage, cast: Cast) -> None:
    """Page through everything, then search."""
    stage.begin(
        "Reading and searching",
        "The second client reads the whole conversation back, page by page (each answer is kept short, and says "
        f"how to get the rest), and then searches it for “{SEARCHED}”.",
    )
    texts: list[str] = []
    pages, after = 0, -1
    while len(texts) < len(cast.turns):
        where: Json = {"conversation_id": cast.conversation, "order": "oldest", "limit": 200}
        page = await cast.second.result("get_history", **where, **({"after": after} if after >= 0 else {}))
        claim(bool(page["messages"]), "a page came back empty")
        texts += [message["text"] for message in page["messages"]]
        after, pages = page["messages"][-1]["seq"], pages + 1
    claim(texts == [turn["content"] for turn in cast.turns], "what was read is not what was recorded")
    found = await cast.second.result("get_history", query=SEARCHED, limit=50)
    expected = [
        seq for seq, turn in zip(cast.seqs, cast.turns, strict=True) if _has_word(turn["content"], SEARCHED)
    ]
    claim(sorted(hit["seq"] for hit in found["hits"]) == expected, "the search found other messages")
    stage.show(f"{len(texts)} messages read in {pages} pages, every one as it was recorded")
    for hit in found["hits"]:
        stage.show(f"entry {hit['seq']}, {hit['role']}: {one_line(hit['excerpt'], 90)}")
    stage.facts |= {"pages": pages, "hits": expected}


def _has_word(text: str, word: str) -> bool:
    return re.search(rf"\b{word}\b", text, re.IGNORECASE) is not None


# ---- character -----------------------------------------------------------------------------------------


async def report(stage: Stage, cast: Cast) -> None:
    """Three reports near the baseline."""
    stage.begin(
        "Reporting character",
        "Now and then a session rates itself on 16 traits (directness, warmth, …). The server compares it with "
        "the Plate's baseline and, from three reports on, with the median of the others.",
    )
    for index, shift in enumerate((0.03, 0.02, -0.02)):
        judged = await _report(cast, index, shift)
        stage.show(_line(judged))
        claim(judged["action"] == "ok", f"a report near the baseline led to {judged['action']}")
    claim(judged["participants"] == 3, "not three instances take part")
    stage.facts["participants"] = judged["participants"]


async def drift(stage: Stage, cast: Cast) -> None:
    """The third instance moves away until it is told to load the Plate again, and does so."""
    stage.begin(
        "Drift, and the way back",
        "The third session now moves away from the baseline, a little further in each report. The answer grows "
        "from watch to recheck to reinit: load the Plate again. Until it has, its reports are refused.",
    )
    actions = []
    for shift, wanted in DRIFTS:
        judged = await _report(cast, 2, shift)
        actions.append(judged["action"])
        stage.show(_line(judged), f"  {judged['why']}")
        claim(judged["action"] == wanted, f"the answer was {judged['action']}, not {wanted}")
    stage.show(f"directive: {one_line(judged['directive'], 160)}")
    lost = cast.instances[2]
    refused = await cast.first.ask(_reporting(cast, 2, 0.01))
    claim("receipt_required" in refused.get("error", ""), "a report without the receipt was not refused")
    stage.show("a report without loading first: refused (receipt_required)")
    loaded = await cast.first.call("load_plate", instance_id=lost)
    judged = await _report(cast, 2, 0.01, receipt=loaded["meta"]["ccn/receipt"])
    claim(judged["action"] == "ok" and judged["state"] == "active", "the way back did not end in ok")
    stage.show("load_plate, then a report with the receipt of that load:", _line(judged))
    stage.facts["drift"] = [*actions, judged["action"]]


async def consensus(stage: Stage, cast: Cast) -> None:
    """Everybody's state."""
    stage.begin("Who is connected", "consensus_status shows every session, its state and what was decided.")
    found = await cast.second.result("consensus_status", instance_id=cast.instances[1])
    claim(found["connected"] == 3 and found["voting"] == 3, "not three instances are connected and voting")
    claim({item["state"] for item in found["instances"]} == {"active"}, "not every instance is active")
    for item in found["instances"]:
        you = " (the caller)" if item["you"] else ""
        stage.show(
            f"{item['instance_id']}  {item['client']}, {item['state']}, "
            f"{item['from_baseline']:.3f} from the baseline{you}"
        )
    shown = ", ".join(f"{name} {value:.2f}" for name, value in list(found["consensus"].items())[:4])
    claim(bool(shown), "the consensus is empty")
    stage.show(f"consensus: {shown}, …", f"baseline: {found['baseline_source']} in the Plate, by its author")
    claim(found["baseline_source"] == "authored", "the baseline is not the Plate's")
    stage.facts["connected"] = found["connected"]


def _reporting(cast: Cast, index: int, shift: float, **more: Any) -> Json:
    traits = _shifted(cast.plate.baseline or (), shift)
    return {
        "tool": "report_character_vector",
        "arguments": {"instance_id": cast.instances[index], "traits": traits, **more},
    }


async def _report(cast: Cast, index: int, shift: float, **more: Any) -> Json:
    peer = (cast.first, cast.second, cast.first)[index]
    request = _reporting(cast, index, shift, **more)
    return await peer.result(request["tool"], **request["arguments"])


def _shifted(baseline: Vector, shift: float) -> list[float]:
    return [round(min(1.0, max(0.0, value + shift)), 3) for value in baseline]


def _line(judged: Json) -> str:
    distance = judged["from_baseline"]["rms"]
    return f"{judged['instance_id']}  {distance:.3f} from the baseline: {judged['action']}"


# ---- the record ----------------------------------------------------------------------------------------


async def verify(stage: Stage, cast: Cast) -> None:
    """The whole chain, its signature, and the head kept after recording."""
    from ccn_mcp.app import node_of
    from ccn_mcp.node.context import Caller
    from ccn_mcp.settings import Settings

    stage.begin(
        "Verifying",
        "verify_chain recomputes every hash, compares what queries see with it, and checks the signed heads. Here it "
        "also checks that the record still contains the head that was kept after recording.",
    )
    async with node_of(Settings(stage.db, config_dir=stage.config), Caller(source="cli")) as node:
        await node.ctx.store.maintain()  # signs at once; a server does so every few seconds
    found = await cast.first.result("verify_chain", known_head=cast.head)
    claim(found["ok"] and found["level"] == 3, "the record did not verify")
    claim(found["known_head_matches"] is True, "the kept head was not found in the record")
    claim(found["signed_to"] == found["entries"], "the head is not signed")
    claim(found["messages"] == len(cast.turns), "the number of messages is wrong")
    stage.show(
        f"ok, level {found['level']} (matched): {found['entries']} entries, {found['messages']} messages",
        f"signed by the record's own key up to entry {found['signed_to']}; head now: {found['head']}",
        "the head from step 4 is part of it",
    )
    stage.facts["verified"] = {name: found[name] for name in ("ok", "level", "entries", "messages", "head")}


async def tamper(stage: Stage, cast: Cast) -> None:
    """Four forgeries by somebody who can write the file."""
    seq = max(seq for seq, turn in zip(cast.seqs, cast.turns, strict=True) if SEARCHED in turn["content"])
    stage.begin(
        "Tampering",
        f"Now somebody edits the file behind the server's back, with plain SQLite: “{SEARCHED}” becomes "
        f"“{FORGED}” in entry {seq}.",
    )
    stage.show("a) only in the column that queries read:")
    await asyncio.to_thread(forgery.change_column, stage.db, seq, SEARCHED, FORGED)
    await _must_find(stage, cast, "column", "columns", seq)
    stage.show("b) in the recorded content as well:")
    await asyncio.to_thread(forgery.change_body, stage.db, seq, SEARCHED, FORGED)
    await _must_find(stage, cast, "body", "content", seq)
    stage.show("c) and every hash of the whole log computed anew, so that all fits again:")
    await asyncio.to_thread(forgery.recompute_every_hash, stage.db)
    found = await cast.second.result("verify_chain")
    claim(
        not found["ok"] and found["fault"]["code"] == "known_head", "the signed head did not show the forgery"
    )
    stage.show("verify_chain: NOT OK, the signed head says otherwise", style="bold red")
    stage.facts["forgeries_found"]["all_hashes"] = found["fault"]["code"]
    stage.show(
        "d) all traces of heads gone as well: signed, in instances' reports, remembered by this machine:"
    )
    await asyncio.to_thread(forgery.forget_every_head, stage.db, stage.config)
    blind = await cast.second.result("verify_chain")
    claim(blind["ok"] and blind["level"] == 1, "without any signed head a check should reach level 1 only")
    stage.show(
        "verify_chain alone: ok, but level 1 only. Nothing in the file can show this one", style="yellow"
    )
    found = await cast.second.result("verify_chain", known_head=cast.head)
    claim(not found["ok"] and found["known_head_matches"] is False, "the kept head did not show the forgery")
    claim(found["fault"]["code"] == "known_head", f"the fault is {found['fault']['code']}")
    stage.show("verify_chain with the head kept from step 4: NOT OK", style="bold red")
    stage.show(f"  {one_line(found['fault']['detail'], 150)}")
    stage.show("So keep a head elsewhere now and then: ccn-mcp status shows it.")
    stage.facts["forgeries_found"]["all_heads"] = found["fault"]["code"]


async def _must_find(stage: Stage, cast: Cast, what: str, code: str, seq: int) -> None:
    page = await cast.second.result("get_history", conversation_id=cast.conversation, before=seq + 1, limit=1)
    claim(FORGED in page["messages"][0]["text"], "the forged word is not what queries see")
    found = await cast.second.result("verify_chain")
    fault = found["fault"] or {}
    claim(not found["ok"] and fault.get("code") == code, f"the fault is {fault.get('code')}, not {code}")
    claim(fault["seq"] == seq and fault["at"], f"the fault is at entry {fault['seq']}, not {seq}")
    stage.show(f"verify_chain: NOT OK at entry {seq}, recorded {minute(fault['at'])}", style="bold red")
    stage.show(f"  {fault['detail']}")
    stage.facts.setdefault("forgeries_found", {})[what] = {"code": code, "entry": seq, "at": fault["at"]}


STEPS: Final = (connect, set_plate, load, record, read, report, drift, consensus, verify, tamper)
