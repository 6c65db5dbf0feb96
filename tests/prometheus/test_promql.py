from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuescope.errors import ConfigurationError
from queuescope.prometheus import promql
from queuescope.prometheus.matchers import parse_matchers
from queuescope.prometheus.promql import Matcher, render_matchers


def test_quoting_escapes_what_could_end_the_string() -> None:
    assert promql.quote('a"b\\c\nd\0') == r'"a\"b\\c\nd\u0000"'
    assert promql.quote("a\ufffd") == r'"a\ufffd"'


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"])), st.sampled_from(["up", "a or b"])
    )
)
def test_what_is_asked_at_once_is_one_query_whatever_its_parts_are_called(
    parts: dict[str, str],
) -> None:
    query = promql.union("part", parts)
    assert not parts or promql.parse(query)
    answered = [((("part", name), ("x", "y")), number) for number, name in enumerate(parts)]
    of_others = ((("x", "y"),), 9)
    found = promql.parts_of("part", [*answered, of_others])
    assert found == {name: [((("x", "y"),), number)] for number, name in enumerate(parts)}


def test_a_name_with_a_dollar_is_no_group_of_the_expression() -> None:
    assert promql.with_label("up", "part", "a$1") == 'label_replace((up), "part", "a$$1", "", "")'


def test_text_that_is_not_unicode_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="not valid Unicode"):
        promql.quote("\ud800")


def test_over_how_long_growth_is_measured_is_read_from_the_query() -> None:
    found = promql.rate_windows(
        '100 * sum(rate(a{x="y"}[1199999ms])) / sum(increase({"c.d"}[20m])) or avg(g) '
        "or min_over_time(sum(rate(a[5m]))[1h:1m]) or last_over_time(h[10s])"
    )
    assert found == (("a", 1199.999), ("c.d", 1200.0), ("a", 300.0))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        ("  ", ()),
        ("{}", ()),
        ('env="prod"', (Matcher("env", "=", "prod"),)),
        (
            'env!="prod", team=~"a|b",x !~ \'c"\',',
            (
                Matcher("env", "!=", "prod"),
                Matcher("team", "=~", "a|b"),
                Matcher("x", "!~", 'c"'),
            ),
        ),
        (' { env = "a}" } ', (Matcher("env", "=", "a}"),)),
        (r'a="\"\\\n\x41\u00e9\U0001F600\101"', (Matcher("a", "=", '"\\\nAé😀A'),)),
        (r"a=`\d`", (Matcher("a", "=", r"\d"),)),
    ],
)
def test_matchers_are_read(text: str, expected: tuple[Matcher, ...]) -> None:
    assert expected == parse_matchers(text)


@pytest.mark.parametrize(
    ("text", "column", "reason"),
    [
        ("prod", 5, "expected ="),
        ('="x"', 1, "expected a label name"),
        ("env=prod", 5, "expected a value in quotes"),
        ("env=", 5, "expected a value in quotes"),
        ('env="prod', 5, "not closed"),
        ('env="prod\\"', 5, "not closed"),
        ('a="b" c="d"', 7, "expected a comma"),
        ('a="b",,', 7, "expected a label name"),
        ('{a="b", 1x="y"}', 9, "expected a label name"),
        (r'a="\d"', 4, "unknown escape"),
        (r'a="\UFFFFFFFF"', 4, "no such character"),
        (r'a="\ud800"', 4, "no such character"),
        (r'a="\xff"', 4, "no such character"),
        ('ok="1", a=~"("', 9, "not a regular expression"),
        ('a="b"} or {c="d"', 6, "expected a comma"),
        ('a="b"}', 6, "expected a comma"),
    ],
)
def test_an_error_names_the_column_and_the_form(text: str, column: int, reason: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_matchers(text)
    assert f"column {column}: " in str(caught.value)
    assert reason in str(caught.value)
    assert 'write env="prod"' in str(caught.value)


@given(
    st.lists(
        st.builds(
            Matcher,
            st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,5}", fullmatch=True),
            st.sampled_from(["=", "!="]),
            st.text(),
        )
    )
)
def test_rendered_matchers_are_read_back(matchers: list[Matcher]) -> None:
    assert tuple(matchers) == parse_matchers(render_matchers(matchers))
    assert tuple(matchers) == parse_matchers(f"{{{render_matchers(matchers)}}}")


def test_a_matcher_cannot_be_built_from_what_would_break_out_of_it() -> None:
    with pytest.raises(ConfigurationError, match="not a label name"):
        Matcher('a="b"} or {c', "=", "d")
    with pytest.raises(ConfigurationError, match="is not one of"):
        Matcher("a", '="x",b=', "d")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (3600, "1h"),
        (90, "90s"),
        (120, "2m"),
        (86_400, "1d"),
        (604_800, "7d"),
        (0.5, "500ms"),
        (3599.999, "3599999ms"),
    ],
)
def test_a_duration_is_written_in_its_largest_exact_unit(seconds: float, expected: str) -> None:
    assert expected == promql.duration(seconds)


@pytest.mark.parametrize("seconds", [0, -1, 0.0001])
def test_a_duration_is_at_least_a_millisecond(seconds: float) -> None:
    with pytest.raises(ValueError, match="at least 1 ms"):
        promql.duration(seconds)


def test_a_query_that_is_not_promql_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="not valid PromQL"):
        promql.parse("sum(up")
