"""Completion of command lines in bash: what may follow, read off the parsers themselves and written down as a script.

The script knows all words already, because starting Python at every press of the key would take longer than typing.
zsh reads it as well, after `autoload bashcompinit && bashcompinit`.
"""

import argparse
from collections.abc import Iterable
from typing import NamedTuple

FUNCTION = "_stowage"


class Completion(NamedTuple):
    """What may follow the first words of a command line.

    Attributes:
        begins: these words, such as "stowage-extender serve" or "-m training.run".
        words: what may follow; those that end in = expect a value and are not followed by a blank.
    """

    begins: str
    words: tuple[str, ...]


def words_of(parser: argparse.ArgumentParser) -> tuple[str, ...]:
    """The flags of a parser, and the words that it knows beside them, as subcommands.

    Example:
        >>> parser = argparse.ArgumentParser(add_help=False)
        >>> _ = parser.add_argument("--load"), parser.add_argument("-n", "--nodes")
        >>> words_of(parser)
        ('--load', '-n', '--nodes')
    """
    words: list[str] = []
    for action in parser._actions:
        words += action.option_strings
        if not action.option_strings:
            words += action.choices or ()
    return tuple(words)


def of_parser(begins: str, parser: argparse.ArgumentParser) -> list[Completion]:
    """The completions of a command and of its subcommands."""
    found = [Completion(begins, words_of(parser))]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                found += of_parser(f"{begins} {name}", below)
    return found


def bash_script(completions: Iterable[Completion], programs: Iterable[str]) -> str:
    """A script for bash to source.

    bash takes `key=value` apart at the sign, so what stands before it is put back before words are compared.

    Args:
        completions: the longest beginning that a line has decides.
        programs: whose lines are completed; what is none of ours is left to the names of files.
    """
    longest_first = sorted(completions, key=lambda each: -len(each.begins.split()))
    cases = "\n".join(f"    *' {each.begins} '*) words='{' '.join(each.words)}' ;;" for each in longest_first)
    return f"""\
{FUNCTION}() {{
  local line=" ${{COMP_WORDS[0]##*/}} ${{COMP_WORDS[*]:1:COMP_CWORD-1}} " words= prefix=
  local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}}
  if [[ $current == "=" ]]; then
    prefix="$previous=" current=
  elif [[ $previous == "=" ]]; then
    prefix="${{COMP_WORDS[COMP_CWORD-2]}}="
  fi
  case "$line" in
{cases}
  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$prefix$current")
  COMPREPLY=("${{COMPREPLY[@]#"$prefix"}}")
  if [[ ${{#COMPREPLY[@]}} -eq 1 && ${{COMPREPLY[0]}} == *= ]]; then compopt -o nospace; fi
}}
complete -o default -F {FUNCTION} {" ".join(programs)}
"""
