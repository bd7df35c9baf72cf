"""What is masked, what is left alone, and that it takes time in proportion."""

from __future__ import annotations

from unittest import mock
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccn_mcp.domain import masking
from ccn_mcp.domain.masking import FORMATS, MARK, mask

OPEN, CLOSE = MARK[0], MARK[-1]

# Put together here, so that no scanner takes this file for a leak.
AB = "Ab3dEf6hIj9kLm2nOp5q"
SECRETS = {
    "anthropic": "sk-" + f"ant-api03-{AB}{AB}-x_y",
    "openai": "sk-" + f"proj-{AB}{AB}",
    "github": "ghp" + f"_{AB}{AB}"[:37],
    "aws": "AKIA" + "IOSFODNN7EXAMPLE",
    "slack": "xoxb" + "-1234567890-abcdefGHIJ",
    "google": "AIza" + f"{AB}{AB}"[:35],
    "jwt": "eyJ" + "hbGciOiJIUzI1NiJ9.eyJ" + "zdWIiOiIxMjM0In0.dBjftJeZ4CVPmB92K27u",
}


def marks(text: str) -> str:
    """[masked:KIND:N] with the marks' own brackets."""
    return text.replace("[masked:", f"{OPEN}masked:").replace("]", CLOSE)


@pytest.mark.parametrize("kind", SECRETS)
@pytest.mark.parametrize("frame", ["{}", "use {} now", "key='{}'", "({}),", "«{}»", "line\n{}\nline"])
def test_a_secret_is_replaced_and_nothing_else(kind: str, frame: str) -> None:
    done = mask(frame.format(SECRETS[kind]))
    assert done.text == frame.format(marks(f"[masked:{kind}:1]"))
    assert done.counts == {kind: 1}
    assert mask(done.text) == (done.text, {})


def test_a_pat_and_values_after_their_names() -> None:
    pat = "github" + f"_pat_{AB}_{AB}"
    said = (
        f"{pat}\nAuthorization: Bearer {AB}\n"
        f'"Authorization": "Basic {AB}=="\npassword="let me in"\nDB_PASSWORD=hunter22 x'
    )
    done = mask(said)
    assert done.text == marks(
        "[masked:github:1]\nAuthorization: Bearer [masked:authorization:1]\n"
        '"Authorization": "Basic [masked:authorization:2]"\npassword=[masked:password:1]\n'
        "DB_PASSWORD=[masked:password:2] x"
    )
    assert done.counts == {"github": 1, "authorization": 2, "password": 2}


def test_the_same_secret_gets_the_same_number() -> None:
    one, two = SECRETS["github"], SECRETS["github"][:-1] + "Z"
    done = mask(f"{one} {two} {one}")
    assert done.text == marks("[masked:github:1] [masked:github:2] [masked:github:1]")
    assert done.counts == {"github": 3}


def test_private_keys_go_whole_and_cut_ones_as_far_as_they_are_there() -> None:
    begin, end = "-----BEGIN RSA PRIVATE" + " KEY-----", "-----END RSA PRIVATE" + " KEY-----"
    key = f"{begin}\nProc-Type: 4,ENCRYPTED\n\nMIIEow+/=\nAAAA\n{end}"
    done = mask(f"before\n{key}\nbetween\n{key}\nafter {begin}\nMIIEow\nBBBB")
    assert done.text == marks(
        "before\n[masked:private_key:1]\nbetween\n[masked:private_key:1]\nafter [masked:private_key:2]"
    )
    assert done.counts == {"private_key": 3}


@pytest.mark.parametrize(
    "text",
    [
        "My password is a secret; the authorization of the task takes a bearer token.",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 2fd4e1c67a2d28fced849ee1bb76e7391b93eb12",
        str(UUID(int=0x12345678123456781234567812345678)),
        "def login(user, password=None): connect(user=user, password=password)",
        "login(password=settings.password, pwd=self._pwd)",
        "password=get_password() and password=ask(prompt)",
        "password=$DB_PASSWORD password=${PW} password=<yours>",
        "a task-force-that-is-long-enough-to-look sk-skeleton-loading-animation-wrapper-outer",
        "desk-Ab3dEf6hIj9kLm2nOp5qRs ghp_short xoxo-hugs-and-kisses-to-all AKIA is a prefix, AIza too",
        "eyJ is how base64 JSON begins: eyJhbGciOiJIUzI1NiJ9",
        "import ghp_import; ghp_import.main()",
        "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----",
        "Authorization: Bearer <token>",
        marks("[masked:github:1] password=[masked:password:1]"),
    ],
)
def test_prose_code_and_hashes_stay_as_they_are(text: str) -> None:
    assert mask(text) == (text, {})


@pytest.mark.parametrize(
    "unit",
    [
        "sk-",
        "sk-a1",
        "eyJ",
        "eyJa.",
        "ghp_",
        "password=",
        "Authorization: Bearer ",
        "AIza",
        "xoxb-",
        "-----BEGIN PRIVATE" + " KEY-----",
    ],
)
def test_a_megabyte_of_beginnings_ends(unit: str) -> None:
    mask(unit * (1_000_000 // len(unit)))


EVERYWHERE = tuple(form.replaced(hints=("",)) for form in FORMATS)
"""The same patterns, each looked for in every text."""

PIECES = st.one_of(
    st.sampled_from([*SECRETS.values(), *(hint for form in FORMATS for hint in form.hints)]),
    st.sampled_from(
        [
            "Authorization: Bearer ",
            "PASSWORD=",
            "pa\u017f\u017fword=hunter22",
            "author\u0131zation: Bearer abcdefgh",
            "\u0130",
            "\u212a",
            "\n",
            " ",
            '"',
            "'",
            "=",
        ]
    ),
    st.text(max_size=30),
)


@given(st.lists(PIECES, max_size=8).map("".join))
def test_the_hints_that_save_a_hook_from_compiling_patterns_hide_no_secret(text: str) -> None:
    quick = mask(text)
    with mock.patch.object(masking, "FORMATS", EVERYWHERE):
        assert mask(text) == quick
