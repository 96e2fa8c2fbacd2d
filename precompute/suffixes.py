"""Known suffixes: which reader a file gets, and which separators its text is split at."""

HTML = frozenset({".html", ".htm", ".xhtml"})
PDF = frozenset({".pdf"})
_PLAIN = """.txt .text .log .csv .tsv .json .jsonl .yaml .yml .toml .ini .cfg .conf .xml .sql .r .css .sh
.bash .adoc .org .bib .cmake .gradle .nix .zig .jl .m .clj .erl .ml .asm .s .vue .svelte"""
PLAIN = frozenset(_PLAIN.split())

LANGUAGES = {
    ".md": "markdown",
    ".markdown": "markdown",
    ".rst": "rst",
    ".tex": "latex",
    ".py": "python",
    ".pyi": "python",
    ".js": "js",
    ".jsx": "js",
    ".mjs": "js",
    ".ts": "ts",
    ".tsx": "ts",
    ".java": "java",
    ".kt": "kotlin",
    ".scala": "scala",
    ".swift": "swift",
    ".go": "go",
    ".rs": "rust",
    ".rb": "ruby",
    ".php": "php",
    ".cs": "csharp",
    ".c": "c",
    ".h": "c",
    ".cc": "cpp",
    ".cpp": "cpp",
    ".cu": "cpp",
    ".hpp": "cpp",
    ".hs": "haskell",
    ".lua": "lua",
    ".ex": "elixir",
    ".exs": "elixir",
    ".ps1": "powershell",
    ".proto": "proto",
    ".sol": "sol",
}
"""Suffix -> name of the language in langchain-text-splitters."""

TEXT = PLAIN | frozenset(LANGUAGES)
KNOWN = TEXT | HTML | PDF
