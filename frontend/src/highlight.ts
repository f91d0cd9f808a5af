// Colours for code: a tokenizer of one pattern per language, which is enough to read by.

export type Language = "python" | "typescript";

const WORDS: Record<Language, string> = {
  python:
    "and|as|assert|async|await|break|class|continue|def|del|elif|else|except|finally|for|from|if|import|in|is|lambda|" +
    "not|or|pass|raise|return|try|while|with|yield|None|True|False|self",
  typescript:
    "as|async|await|break|class|const|continue|else|export|extends|false|for|from|function|if|import|in|interface|let|" +
    "new|null|of|private|readonly|return|static|this|throw|true|try|catch|type|typeof|undefined|void|while",
};

const STRINGS: Record<Language, string> = {
  python: String.raw`[fr]?"""[\s\S]*?"""|[fr]?"(?:\\.|[^"\\\n])*"|[fr]?'(?:\\.|[^'\\\n])*'`,
  typescript: String.raw`"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|\x60(?:\\.|[^\x60\\])*\x60`,
};

const COMMENTS: Record<Language, string> = { python: String.raw`#.*`, typescript: String.raw`//.*|/\*[\s\S]*?\*/` };

/** `code` as coloured spans; whatever it holds, it is only ever text. */
export function highlight(code: string, language: Language): DocumentFragment {
  const pattern = new RegExp(
    [
      `(?<comment>${COMMENTS[language]})`,
      `(?<string>${STRINGS[language]})`,
      String.raw`(?<decorator>^\s*@[\w.]+)`,
      String.raw`(?<keyword>\b(?:${WORDS[language]})\b)`,
      String.raw`(?<number>\b\d[\d_.]*\b)`,
      String.raw`(?<call>\b[A-Za-z_]\w*(?=\())`,
    ].join("|"),
    "gm",
  );
  const result = new DocumentFragment();
  let end = 0;
  for (const match of code.matchAll(pattern)) {
    const kind = Object.entries(match.groups ?? {}).find(([, text]) => text !== undefined)?.[0] ?? "";
    const span = document.createElement("span");
    span.className = `code-${kind}`;
    span.textContent = match[0];
    result.append(code.slice(end, match.index), span);
    end = match.index + match[0].length;
  }
  result.append(code.slice(end));
  return result;
}
