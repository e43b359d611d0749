"""Descriptions that are broken on purpose or by accident: one error that names the file."""

from pathlib import Path

import pytest

from dml.core.errors import ConfigError
from dml.core.yaml_files import read_yaml

BROKEN = {
    "repeated key": (b"a: 1\nb: 2\na: 3\n", "the key 'a' is there twice"),
    "repeated key inside": (b"x:\n  a: 1\n  a: 3\n", "the key 'a' is there twice"),
    "alias": (b"a: &x [1, 2]\nb: *x\n", "an alias"),
    "impossible date": (b"a: 2021-13-45\n", "a value cannot be read"),
    "latin-1": ("a: Bös\n".encode("latin-1"), "not UTF-8"),
    "deep": (b"[" * 3000 + b"]" * 3000, "nested deeper"),
    "no bool": (b"a: !!bool maybe\n", "x.yaml"),
    "tag": (b"a: !!python/object:os.system x\n", "not YAML"),
    "large": (b"#" * 1_000_001, "at most"),
    "unfinished": (b"a: [1, 2\n", "not YAML"),
    "NUL": (b"a: \0\n", "not YAML"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_yaml_is_one_error(tmp_path: Path, name: str) -> None:
    content, message = BROKEN[name]
    (tmp_path / "x.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=message) as error:
        read_yaml(tmp_path / "x.yaml")
    assert "x.yaml" in str(error.value)


def test_plain_yaml_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes("\ufeffa: {b: [1, x]}\nd: 2021-01-02\n".encode())
    assert read_yaml(tmp_path / "x.yaml")["a"] == {"b": [1, "x"]}
