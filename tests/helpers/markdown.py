"""A card as a reader sees it: what of it is a link, an image or HTML, by a renderer of GitHub's Markdown."""

from markdown_it import MarkdownIt

HOSTILE = (
    "x`|*_~<b>&amp;</b><img src=x onerror=alert(1)><!-- end of hf-sae-select: subset -->"
    "[a](https://evil.example) ![i](https://evil.example/i.png) www.evil.example https://evil.example "
    "http://evil.example me@evil.example @someone #1 {{ 7 * 7 }} {% raw %} $x$ | --- | \\"
)
HOSTILE_LINES = (
    f"a\n---\nlicense: evil\n---\n\n# Heading\n\n<script>alert(1)</script>\n```\n{HOSTILE}\r\u202e\x1b[2J\u2028- item"
)
# What GitHub's renderers make links of, in the text that a reader sees, wherever it stands outside code.
ADDRESSES = ("www.evil", "https://evil", "http://evil", "me@evil", "mailto:", "@someone")


def tokens_of(card):
    """Yield all tokens of a card's text, without its metadata."""
    text = card.split("\n---\n", 1)[1]
    for token in MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text):
        yield token
        yield from token.children or []


def links_of(card):
    return sorted({token.attrs["href"] for token in tokens_of(card) if token.type == "link_open"})


def images_of(card):
    return [token.attrs["src"] for token in tokens_of(card) if token.type == "image"]


def html_of(card):
    return [token.content.strip() for token in tokens_of(card) if token.type in ("html_inline", "html_block")]


def headings_of(card):
    tokens = list(tokens_of(card))
    return [tokens[i + 1].content for i, token in enumerate(tokens) if token.type == "heading_open"]


def words_of(card):
    """The text that is no code, as a reader sees it, in one string."""
    return " ".join(token.content for token in tokens_of(card) if token.type in ("text", "text_special"))
