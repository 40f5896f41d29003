// The editor of the page: CodeMirror 6 with what a snippet of Python needs, and no more.

import { defaultKeymap, history, historyKeymap, indentLess, indentMore } from "@codemirror/commands";
import { python } from "@codemirror/lang-python";
import { bracketMatching, indentOnInput, indentUnit, syntaxHighlighting } from "@codemirror/language";
import { EditorState } from "@codemirror/state";
import {
  EditorView,
  highlightActiveLine,
  highlightActiveLineGutter,
  highlightSpecialChars,
  keymap,
  lineNumbers,
} from "@codemirror/view";
import { classHighlighter } from "@lezer/highlight";

const INDENT = "    ";

// Tab indents, and after Escape it leaves, however long after: nobody is held to two seconds.
function tabKeys() {
  let leaving = false;
  const indent = (view) => {
    if (leaving) return false;
    if (!view.state.selection.main.empty) return indentMore(view);
    view.dispatch(view.state.replaceSelection(INDENT), { scrollIntoView: true, userEvent: "input" });
    return true;
  };
  return [
    EditorView.domEventHandlers({
      keydown: (event) => {
        if (event.key === "Escape") leaving = true;
        else if (event.key !== "Tab" && event.key !== "Shift") leaving = false;
      },
      blur: () => {
        leaving = false;
      },
    }),
    keymap.of([{ key: "Tab", run: indent, shift: (view) => !leaving && indentLess(view) }]),
  ];
}

/**
 * Put an editor into an element. `attributes` are those of the editable part; `changed` is called
 * after each change of the text. Return its text, ways to change it, and the focus.
 */
export function mount(parent, text, attributes, changed) {
  const view = new EditorView({
    parent,
    state: EditorState.create({
      doc: text,
      extensions: [
        lineNumbers(),
        history(),
        highlightSpecialChars(), // also those that would make code read otherwise than it runs
        highlightActiveLine(),
        highlightActiveLineGutter(),
        indentOnInput(),
        indentUnit.of(INDENT),
        EditorState.tabSize.of(4),
        bracketMatching(),
        python(),
        syntaxHighlighting(classHighlighter),
        tabKeys(),
        // The page has Mod-Enter for itself.
        keymap.of([...defaultKeymap.filter(({ key }) => key !== "Mod-Enter"), ...historyKeymap]),
        EditorView.contentAttributes.of({ spellcheck: "false", autocapitalize: "off", ...attributes }),
        EditorView.updateListener.of((update) => {
          if (update.docChanged) changed();
        }),
      ],
    }),
  });
  return {
    get text() {
      return view.state.doc.toString();
    },
    set text(value) {
      view.dispatch({ changes: { from: 0, to: view.state.doc.length, insert: value } });
    },
    select() {
      view.dispatch({ selection: { anchor: 0, head: view.state.doc.length } });
    },
    focus() {
      view.focus();
    },
  };
}
