"""CRI's signal enumeration and Linux's names and numbers (CRI Signal, signal(7))."""

from __future__ import annotations

import signal

_NAMES = (
    "RUNTIME_DEFAULT SIGABRT SIGALRM SIGBUS SIGCHLD SIGCLD SIGCONT SIGFPE SIGHUP SIGILL SIGINT SIGIO SIGIOT SIGKILL "
    "SIGPIPE SIGPOLL SIGPROF SIGPWR SIGQUIT SIGSEGV SIGSTKFLT SIGSTOP SIGSYS SIGTERM SIGTRAP SIGTSTP SIGTTIN SIGTTOU "
    "SIGURG SIGUSR1 SIGUSR2 SIGVTALRM SIGWINCH SIGXCPU SIGXFSZ"
).split()
_FIRST_REALTIME = len(_NAMES)
_RTMIN, _RTMAX = 34, 64
_LONGEST_NUMBER = len(str(_RTMAX))
#: CRI number of the signal that ends a process politely.
SIGTERM = _NAMES.index("SIGTERM")
LAST_SIGNAL = _FIRST_REALTIME + _RTMAX - _RTMIN


def signal_number(cri_signal: int) -> int:
    """Return Linux's number of a CRI signal; the default one is SIGTERM."""
    if cri_signal == 0:
        return signal.SIGTERM
    if cri_signal >= _FIRST_REALTIME:
        return _RTMIN + cri_signal - _FIRST_REALTIME
    return _LINUX_NUMBERS[_NAMES[cri_signal]]


def signal_name(cri_signal: int) -> str:
    """Return a name that engines understand, such as SIGTERM or SIGRTMIN+3."""
    if cri_signal >= _FIRST_REALTIME:
        offset = cri_signal - _FIRST_REALTIME
        return "SIGRTMIN" if offset == 0 else f"SIGRTMIN+{offset}"
    return _NAMES[cri_signal] if cri_signal else "SIGTERM"


def parse_signal(text: str) -> int:
    """Return the CRI number of an image's stop signal (`SIGTERM`, `TERM`, `15`, `RTMIN+3`); SIGTERM when unknown."""
    word = text.strip().upper()
    if _is_number(word):
        return _from_linux(int(word))
    word = word if word.startswith("SIG") else f"SIG{word}"
    if word in _NAMES:
        return _NAMES.index(word)
    for prefix, base, sign in (("SIGRTMIN", _RTMIN, 1), ("SIGRTMAX", _RTMAX, -1)):
        if word.startswith(prefix):
            offset = word.removeprefix(prefix).lstrip("+-") or "0"
            if _is_number(offset):
                return _from_linux(base + sign * int(offset))
    return SIGTERM


def _is_number(text: str) -> bool:
    """Whether this may be a signal's number; images say what they like, and Python refuses to read endless ones."""
    return text.isascii() and text.isdecimal() and len(text) <= _LONGEST_NUMBER


def _from_linux(number: int) -> int:
    if _RTMIN <= number <= _RTMAX:
        return _FIRST_REALTIME + number - _RTMIN
    return next((_NAMES.index(name) for name, known in _LINUX_NUMBERS.items() if known == number), SIGTERM)


_LINUX_NUMBERS = {
    name: int(getattr(signal, name, 0)) or {"SIGCLD": 17, "SIGIOT": 6, "SIGPOLL": 29, "SIGSTKFLT": 16}[name]
    for name in _NAMES[1:]
}
