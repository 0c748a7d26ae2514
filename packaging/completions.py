"""The shells' completions of the program's command line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from command_line import PROGRAM, Value, value_of, verbs

#: Flags that stand in the place of a verb; any other flag there is one of `serve`.
_INSTEAD_OF_VERBS = ("--help", "--version", "--buildinfo")
_BASH = """# bash completion for @PROGRAM@

# Sets what the flag $1 takes: choices, or a path in files; fails when it takes nothing.
_cri_dockerd_py_flag() {
    choices="" files=""
    case "$1" in
@FLAGS@
        *) return 1 ;;
    esac
}

# Sets what may follow the verbs $1: further verbs, options, and choices or a path.
_cri_dockerd_py_verb() {
    verbs="" options="" choices="" files=""
    case "$1" in
@VERBS@
    esac
}

_cri_dockerd_py() {
    local current="${COMP_WORDS[COMP_CWORD]}" at="" flag="" operand="" start=""
    local index word verbs options choices files candidates
    for ((index = 1; index < COMP_CWORD; index++)); do
        word="${COMP_WORDS[index]}"
        case "$word" in
            "=") ;; # bash takes --flag=value apart
            -?*)
                flag=""
                [[ -n "$at" ]] || at="serve"
                if [[ "$word" != *"="* ]] && _cri_dockerd_py_flag "$word"; then flag="$word"; fi
                ;;
            *)
                _cri_dockerd_py_verb "$at"
                if [[ -n "$flag" ]]; then
                    flag=""
                elif [[ -z "$operand" && " $verbs " == *" $word "* ]]; then
                    at="$at${at:+ }$word"
                else
                    operand="$word"
                fi
                ;;
        esac
    done
    if [[ "$current" == "=" ]]; then
        current=""
    elif [[ "$current" == --*"="* ]]; then # zsh does not take it apart
        flag="${current%%=*}"
        start="$flag="
        current="${current#*=}"
    fi
    if [[ -n "$flag" && "$current" != -?* ]]; then
        _cri_dockerd_py_flag "$flag"
        candidates="$choices"
    else
        _cri_dockerd_py_verb "$at"
        [[ -z "$operand" ]] || verbs="" choices="" files=""
        candidates="$verbs$choices"
        [[ "$current" != -* && -n "$candidates$files" ]] || candidates="$options" files=""
    fi
    COMPREPLY=($(compgen -P "$start" -W "$candidates" -- "$current"))
    # Where nothing fits, files are offered, unless none is wanted.
    [[ -n "$files" ]] || compopt +o default 2>/dev/null
}
complete -o default -F _cri_dockerd_py @PROGRAM@
"""


def bash() -> str:
    """Return a completion for bash, which zsh's bashcompinit takes too."""
    texts = {"PROGRAM": PROGRAM, "FLAGS": "\n".join(_flag_cases()), "VERBS": "\n".join(_verb_cases())}
    script = _BASH
    for name, text in texts.items():
        script = script.replace(f"@{name}@", text)
    return script


def zsh() -> str:
    """Return a completion for zsh, which runs it when it is first asked for one: its end answers that."""
    begin = f"#compdef {PROGRAM}\nautoload -U +X bashcompinit && bashcompinit\n"
    return f"{begin}{bash()}_bash_complete -o default -F _cri_dockerd_py\n"


def fish() -> str:
    """Return a completion for fish."""
    lines = [f"# fish completion for {PROGRAM}", f"complete -c {PROGRAM} -f"]
    first = {verb.words[0]: verb.first_help for verb in verbs()}
    for word, text in first.items():
        lines.append(f"complete -c {PROGRAM} -n __fish_use_subcommand -a {word} -d {_quoted(text)}")
    for verb in verbs():
        path, last = verb.words[:-1], verb.words[-1]
        for word in path:
            condition = f"__fish_seen_subcommand_from {word}"
            lines.append(f"complete -c {PROGRAM} -n '{condition}' -a {last} -d {_quoted(verb.help)}")
        conditions = [f"__fish_seen_subcommand_from {word}" for word in verb.words]
        # A command line that starts with a flag serves.
        within = "; and ".join(conditions) + ("; or __fish_use_subcommand" if last == "serve" else "")
        seen = f"complete -c {PROGRAM} -n '{within}'"
        for name, action in verb.long_flags.items():
            text = _quoted(str(action.help or "").replace("%%", "%"))
            lines.append(f"{seen} -l {name[2:]} -d {text}{_fish_value(value_of(action))}")
        if verb.operand is not None:
            lines.append(seen + (" -F" if verb.operand.is_path else f" -a '{' '.join(verb.operand.words)}'"))
    return "\n".join(lines) + "\n"


def _flag_cases() -> Iterator[str]:
    """Yield a case for each thing that flags take; a flag takes the same whatever its verb is."""
    takes: dict[str, Value] = {}
    for verb in verbs():
        for name, action in verb.long_flags.items():
            value = value_of(action)
            if value is not None:
                assert takes.setdefault(name, value) == value, name
    by_value: dict[Value, list[str]] = {}
    for name, value in takes.items():
        by_value.setdefault(value, []).append(name)
    for value, names in by_value.items():
        yield f"        {'|'.join(names)}) {_set(value)};;"


def _verb_cases() -> Iterator[str]:
    further: dict[str, list[str]] = {}
    options: dict[str, Iterable[str]] = {}
    operands: dict[str, Value | None] = {}
    for verb in verbs():
        for depth, word in enumerate(verb.words):
            known = further.setdefault(" ".join(verb.words[:depth]), [])
            known += [] if word in known else [word]
        options[" ".join(verb.words)] = verb.long_flags
        operands[" ".join(verb.words)] = verb.operand
    options[""] = [*_INSTEAD_OF_VERBS, *(name for name in options["serve"] if name not in _INSTEAD_OF_VERBS)]
    for words in {**further, **options}:
        sets = f'verbs="{" ".join(further.get(words, ()))}" options="{" ".join(options.get(words, ["--help"]))}" '
        yield f'        "{words}") {sets}{_set(operands.get(words) or Value())};;'


def _set(value: Value) -> str:
    """Return the assignments of what is taken, with a space after each."""
    choices = f'choices="{" ".join(value.words)}" ' if value.words else ""
    return choices + ("files=1 " if value.is_path else "")


def _fish_value(value: Value | None) -> str:
    if value is None:
        return ""
    return " -r -F" if value.is_path else f" -x -a '{' '.join(value.words)}'" if value.words else " -x"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
