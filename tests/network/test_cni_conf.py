from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cri_dockerd_py.network.cni_conf import (
    VERSIONS,
    ConfError,
    at_least,
    choose_version,
    is_interface_name,
    is_name,
    parse_conf,
    parse_conf_list,
    plugin_stdin,
)


def text(**fields: object) -> bytes:
    return json.dumps({"name": "net", "plugins": [{"type": "bridge"}], **fields}).encode()


def test_a_list_keeps_its_text_for_the_cache() -> None:
    raw = text(cniVersion="0.4.0", disableCheck=True)
    conf = parse_conf_list(raw)
    assert (conf.name, conf.versions, conf.disable_check, conf.disable_gc) == ("net", ("0.4.0",), True, False)
    assert conf.raw is raw


def test_a_single_configuration_becomes_a_list_of_one() -> None:
    conf = parse_conf(b'{"cniVersion":"0.2.0","name":"net","type":"bridge","bridge":"br0"}')
    assert [plugin.type for plugin in conf.plugins] == ["bridge"]
    again = parse_conf_list(conf.raw)
    assert (again.name, again.versions) == ("net", ("0.2.0",))
    assert again.plugins[0].fields["bridge"] == "br0"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"name": ""}, "not a network name"),
        ({"name": "../../etc"}, "not a network name"),
        ({"name": "-x"}, "not a network name"),
        ({"name": 5}, "name of the configuration is not a string"),
        ({"plugins": []}, "no plugins"),
        ({"plugins": {}}, "not a list"),
        ({"plugins": [{}]}, "not the name of a program"),
        ({"plugins": [{"type": "../sh"}]}, "not the name of a program"),
        ({"plugins": [{"type": ".."}]}, "not the name of a program"),
        ({"plugins": [{"type": "x"}] * 65}, "more than 64"),
        ({"plugins": [{"type": "x", "capabilities": []}]}, "capabilities of plugin x"),
        ({"cniVersion": "2.0.0"}, "is unknown"),
        ({"cniVersion": 1}, "not a string"),
        ({"cniVersions": "1.0.0"}, "not a list of strings"),
        ({"disableCheck": 1}, "not a boolean"),
    ],
)
def test_invalid_lists_say_why(fields: dict[str, object], reason: str) -> None:
    with pytest.raises(ConfError, match=reason):
        parse_conf_list(text(**fields))


def test_a_list_in_a_single_configurations_file_is_explained() -> None:
    with pytest.raises(ConfError, match=r"name the file \.conflist"):
        parse_conf(text())


@pytest.mark.parametrize(
    ("fields", "versions"),
    [
        ({}, ("0.1.0",)),
        ({"cniVersion": ""}, ("0.1.0",)),
        ({"cniVersion": "0.3.1"}, ("0.3.1",)),
        ({"cniVersions": ["1.1.0", "0.4.0", "9.0.0"], "cniVersion": "1.0.0"}, ("0.4.0", "1.0.0", "1.1.0")),
        ({"cniVersions": ["1.1.0"]}, ("1.1.0",)),
    ],
)
def test_versions_that_a_list_allows(fields: dict[str, object], versions: tuple[str, ...]) -> None:
    assert parse_conf_list(text(**fields)).versions == versions


def test_the_newest_version_that_all_plugins_support_is_chosen() -> None:
    conf = parse_conf_list(text(cniVersions=list(VERSIONS)))
    assert choose_version(conf, [frozenset(VERSIONS), frozenset({"0.3.1", "1.0.0"})]) == "1.0.0"
    with pytest.raises(ConfError, match="do not all support cniVersion"):
        choose_version(conf, [frozenset({"0.3.1"}), frozenset({"1.0.0"})])


def test_versions_are_ordered() -> None:
    assert at_least("1.0.0", "0.4.0")
    assert not at_least("0.3.1", "0.4.0")
    assert all(at_least(version, version) for version in VERSIONS)


def test_stdin_has_the_lists_name_and_only_declared_capabilities() -> None:
    plugin = {"type": "p", "name": "own", "x": 1, "capabilities": {"portMappings": True, "dns": False}}
    conf = parse_conf_list(text(plugins=[plugin]))
    given_args = {"portMappings": [{"hostPort": 1}], "dns": {"servers": []}, "bandwidth": {}}
    stdin = json.loads(
        plugin_stdin(conf, conf.plugins[0], "1.0.0", prev_result={"ips": []}, capability_args=given_args)
    )
    assert stdin == {
        **plugin,
        "name": "net",
        "cniVersion": "1.0.0",
        "prevResult": {"ips": []},
        "runtimeConfig": {"portMappings": [{"hostPort": 1}]},
    }
    assert conf.capabilities == {"portMappings"}


def test_stdin_without_anything_to_add() -> None:
    conf = parse_conf_list(text())
    assert json.loads(plugin_stdin(conf, conf.plugins[0], "0.1.0", capability_args={"dns": {}})) == {
        "type": "bridge",
        "name": "net",
        "cniVersion": "0.1.0",
    }


@given(st.text(max_size=20))
def test_names_are_safe_in_paths(name: str) -> None:
    if is_name(name):
        assert "/" not in name
        assert not name.startswith(".")
    if is_interface_name(name):
        assert "/" not in name
        assert 0 < len(name.encode()) < 16


@given(
    st.dictionaries(
        st.sampled_from(["name", "plugins", "cniVersion", "cniVersions", "type", "disableGC"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=8),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
        ),
    )
)
def test_any_object_is_a_configuration_or_the_error(fields: dict[str, object]) -> None:
    for parse in (parse_conf, parse_conf_list):
        try:
            conf = parse(json.dumps(fields).encode())
        except ConfError:
            continue
        assert is_name(conf.name)
        assert conf.plugins
        assert conf.versions
