"""Obvious secrets in the text of an error are masked, and the rest is kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuescope.instrument.redact import MASK, redacted

SECRET = "hunter2-S3cr3t"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nAAAA\n-----END RSA PRIVATE KEY-----"


@pytest.mark.parametrize(
    "text",
    [
        f"cannot connect to postgresql+psycopg://shop:{SECRET}@db:5432/shop",
        f"redis://:{SECRET}@cache:6379/0 refused",
        f"fatal: https://{SECRET}@git.example/x.git",
        f"amqp://shop:p@ss{SECRET}@mq// is away",
        f"Authorization: Bearer {SECRET}",
        f"{{'authorization': 'Basic {SECRET}'}}",
        f'{{"Authorization": "Token {SECRET}"}}',
        f"sent with Bearer {SECRET}",
        f"Cookie: session={SECRET}; theme=dark",
        f"GET /v1?user=7&token={SECRET}&page=2",
        f"api_key={SECRET}",
        f"X-Api-Key: {SECRET}",
        f"apikey => {SECRET}",
        f"connection failed: host=db password={SECRET} user=shop",
        f"Server=db;Pwd={SECRET};Timeout=5",
        f"{{'user': 'shop', 'db_password': '{SECRET}'}}",
        f'{{"client_secret": "{SECRET}"}}',
        f'body was "{{\\"refresh_token\\": \\"{SECRET}\\"}}"',
        f"login(password=b'{SECRET}')",
        f"AWS_SECRET_ACCESS_KEY={SECRET}",
        f"mysqldump --password {SECRET} shop",
        f"password='{SECRET} that was cut off",
        f"https://x.example/blob?sig={SECRET}&se=2026",
    ],
)
def test_a_named_secret_is_masked(text: str) -> None:
    masked = redacted(text)
    assert SECRET not in masked
    assert MASK in masked


@pytest.mark.parametrize(
    "secret",
    [
        "AKIAIOSFODNN7EXAMPLE",
        "sk-proj-abcDEF1234567890abcdef",
        "sk_live_4eC39HqLyjWDarjtT1zdp7dc",
        "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
        "xoxb-123456789012-abcdefghij",
        JWT,
        PEM,
        PEM[:60],
    ],
)
def test_a_secret_is_recognized_by_its_form(secret: str) -> None:
    assert redacted(f"refused: {secret}") == f"refused: {MASK}"


@pytest.mark.parametrize(
    "text",
    [
        "429 Too Many Requests",
        "KeyError: 'token'",
        "max_tokens: 4096, token_count=7",
        "Unexpected token < in JSON at position 0",
        "https://x.example/a@b?x=1",
        "mail to ada@example.com failed",
        'violates unique constraint "pk_customers_by_region_2"',
        "task-scheduler-service-number-7 compass: north",
        "basic checks failed",
    ],
)
def test_other_text_is_kept(text: str) -> None:
    assert redacted(text) == text


def test_the_kind_of_a_masked_secret_is_shown() -> None:
    text = f"postgresql://shop:{SECRET}@db/shop: password={SECRET} try 3"
    assert redacted(text) == f"postgresql://shop:{MASK}@db/shop: password={MASK} try 3"


PIECES = st.sampled_from(
    [*"'\"\\:=@/&; \nab1", "://", "password", "token=", "Bearer ", "eyJ", "sk-", "--", MASK]
)


@given(st.one_of(st.text(), st.lists(PIECES, max_size=40).map("".join)))
def test_any_text_can_be_masked(text: str) -> None:
    assert len(redacted(text)) <= len(text) * len(MASK)
