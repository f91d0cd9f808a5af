"""JSON texts of every sort that RFC 8259 allows, and so `JSON.parse`: as clients write them, and as none would."""

from hypothesis import strategies as st


def _joined(*parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(*parts).map("".join)


def _escape(code: int, upper: bool) -> str:
    return f"\\u{code:04X}" if upper else f"\\u{code:04x}"


_space = st.sampled_from(["", "", "", " ", "\t", "\r", "\n", "\r\n  "])
_plain = st.characters(exclude_categories=["Cs"], exclude_characters='"\\', min_codepoint=0x20)
_short = st.sampled_from([rf"\{character}" for character in '"\\/bfnrt'])
_coded = st.builds(_escape, st.integers(0, 0xFFFF), st.booleans())
_half = st.builds(_escape, st.integers(0xD800, 0xDFFF), st.booleans())
_string = st.lists(_plain | _short | _coded | _half, max_size=6).map(lambda parts: f'"{"".join(parts)}"')
_number = st.from_regex(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,4})?", fullmatch=True).filter(
    lambda text: text.isascii()
)


def _list(inner: st.SearchStrategy[str], mark: str) -> st.SearchStrategy[str]:
    return st.lists(inner, max_size=3).map(lambda items: f"{mark[0]}{','.join(items)}{mark[1]}")


_text = st.recursive(
    st.sampled_from(["true", "false", "null"]) | _number | _string,
    lambda inner: (
        _list(_joined(_space, inner, _space), "[]")
        | _list(_joined(_space, _string, _space, st.just(":"), _space, inner, _space), "{}")
    ),
    max_leaves=6,
)

json_texts = _joined(_space, _text, _space).map(str.encode)
"""UTF-8. Names may come twice in an object, numbers may be larger than any type, halves of characters are anywhere."""
