"""The register of sources: its schema, what it says of a mistake, and recording what was measured."""

import hashlib
import io
import zipfile
from pathlib import Path

import pytest
import yaml

from workflow_scripts import manifest
from workflow_scripts.console import BadInput
from workflow_scripts.data import checksums, places, record, register

NEEDED = {
    *("tnllt-annotations", "tnllt-parts", "tnllt-raw-results", "tnllt-splits", "sft-annotations", "sft-images"),
    *("reasoningtrack-sft-model", "reasoningtrack-rl-model", "qwen2.5-vl-3b-instruct", "bert-base-uncased"),
    *("r1-track-5k", "r1-track-100k", "r1-track-sharegpt", "glad-weights", "dutrack-256-full", "dutrack-384-full"),
    *("seqtrack-b256", "seqtrack-b384", "seqtrack-l256", "seqtrack-l384", "dutrack-raw-results", "seqtrack-raw-results"),
    *(
        "tnl2k",
        "got10k",
        "lasot",
        "lasot_ext",
        "otb99",
        "otb2015",
        "trackingnet",
        "uav123",
        "nfs",
        "vot2020",
        "mgit",
        "vasttrack",
    ),
    *("coco-2017-annotations", "coco-2017-train", "refcocog"),
}
ENTRY = """\
  {name}:
    what: x   # said by its page
    used_for: x
    licence: x
    bytes: unknown
    hash: unknown  # nobody published one
    mirrors:
      - {{kind: huggingface, repository: a/b, type: model, revision: unknown}}
      - {{kind: page, url: "http://x"}}
    by_hand: x
"""
PARTS = """\
  parts:
    what: x
    used_for: x
    licence: x
    files:
      - {name: "sums.md5", bytes: unknown, hash: "unknown"}
      # as many as the share has
      - {name: "T_part_*", bytes: unknown, hash: "unknown"}
    mirrors:
      - {kind: baidu, url: "https://pan.baidu.com/s/1", code: abcd}
    by_hand: x
"""
TEXT = "# reviewed\nsources:\n" + ENTRY.format(name="a") + ENTRY.format(name="b") + PARTS


@pytest.fixture
def path(tmp_path) -> Path:
    (tmp_path / "sources.yaml").write_text(TEXT)
    return tmp_path / "sources.yaml"


def test_the_register_is_sorted_complete_and_invents_no_hash():
    known = register.load()
    assert list(known) == sorted(known) and set(known) >= NEEDED
    for source in known.values():
        for sized in [source.whole, *source.files]:
            assert sized is None or sized.hash == "unknown" or sized.digest is not None


def test_every_hash_of_a_registered_file_list_adds_up_to_its_size():
    assert register.load()["sft-annotations"].size == 2292666
    assert register.load()["tnllt-parts"].size is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("used_for: x", "used_four: x", "line 5: unknown key sources.a.used_four; did you mean used_for?"),
        ("revision: unknown", "revison: unknown", "line 10: unknown key .*revison; did you mean revision?"),
        ('url: "http://x"', 'URL: "http://x"', "line 11: unknown key .*URL; did you mean url?"),
        ('"sums.md5", bytes', '"sums.md5", byte', "line 28: unknown key .*byte; did you mean bytes?"),
        ("sources:", "source:", "line 3: unknown key source; did you mean sources?"),
        ("hash: unknown", "hash: sha256:1234", "line 8: sources.a.hash: '1234' is no sha256"),
        ("hash: unknown", "hash: sha255:1234", "line 8: sources.a.hash: '1234' is no sha255"),
        ("bytes: unknown", "bytes: many", "line 7: sources.a.bytes: 'many' is no number of bytes"),
        ("bytes: unknown", "bytes: -1", "line 7: sources.a.bytes: -1 is no number of bytes"),
        ("    bytes: unknown\n", "", "line 4: sources.a: give bytes and hash"),
        ("kind: page", "kind: pages", "line 11: .*'pages'"),
        ("  b:", "  0:", "valid string"),
        ("  b:", "  Z:", "write names in lower case"),
        ("  b:", "  0b:", "line 3: sources: 0b comes after a: sort the entries"),
        ("  b:", "  a:", "line 13: there is a source a already"),
        ("what: x", "what: [", "line 6: not valid YAML"),
        ("revision: unknown", "revision: main", "line 10: .*revision"),
        ("https://pan.baidu.com", "http://pan.baidu.com", "line 32: .*url"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_the_nearest_name(path, old, new, message):
    path.write_text(TEXT.replace(old, new, 1))
    with pytest.raises(BadInput, match=rf"sources\.yaml.*({message})") as told:
        register.load(path)
    assert "\n" not in str(told.value)


def test_a_name_that_is_not_there_is_answered_with_the_nearest(path):
    with pytest.raises(BadInput, match="no source part; there are parts"):
        register.find("part", path)
    with pytest.raises(BadInput, match="does not exist"):
        register.load(path.with_name("none.yaml"))


def changes(path: Path) -> list[tuple[str, str]]:
    """Lines of the register that differ from the original."""
    return [(old, new) for old, new in zip(TEXT.splitlines(), path.read_text().splitlines(), strict=True) if old != new]


def registered(path: Path, name: str, *found: places.Place) -> list[str]:
    return record.record(name, register.find(name, path), list(found), path)


def test_size_and_hash_of_a_verified_file_replace_unknown_and_nothing_else_changes(path, tmp_path):
    (tmp_path / "model.bin").write_bytes(b"weights")
    told = registered(path, "b", places.at(tmp_path / "model.bin"))
    digest = hashlib.sha256(b"weights").hexdigest()
    assert changes(path) == [
        ("    bytes: unknown", "    bytes: 7"),
        ("    hash: unknown  # nobody published one", f"    hash: sha256:{digest}  # nobody published one"),
    ]
    assert len(told) == 2 and told[0].endswith("line 17: b.bytes is 7")
    whole = register.load(path)["b"].whole
    assert whole is not None and (whole.size, whole.digest) == (7, checksums.Digest("sha256", digest))
    assert registered(path, "b", places.at(tmp_path / "model.bin")) == []


def test_a_folder_is_known_by_the_hash_that_its_manifest_has_and_its_commit_is_recorded(path, tmp_path):
    folder = tmp_path / "model"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "a").write_text("a")
    (folder / "b").write_text("bb")
    manifest.write(tmp_path / "model.json", [folder], facts={"source": "a", "revision": "c" * 40})
    registered(path, "a", places.at(folder))
    source = register.load(path)["a"]
    assert source.whole is not None and source.whole.hash == f"tree:{manifest.summary(folder)['sha256']}" and source.size == 3
    assert source.mirrors[0].revision == "c" * 40  # type: ignore[union-attr]
    checksums.verify(folder, source.whole.size, source.whole.digest)
    (folder / "b").write_text("cc")
    with pytest.raises(BadInput, match="has tree"):
        checksums.verify(folder, source.whole.size, source.whole.digest)


def test_files_that_a_pattern_names_get_a_line_each(path, tmp_path):
    import gzip

    whole = gzip.compress(b"content" * 1000)
    found = []
    for name, content in (("T_part_aa", whole[:20]), ("T_part_ab", whole[20:]), ("sums.md5", b"0  x\n")):
        (tmp_path / name).write_bytes(content)
        found.append(places.Place(tmp_path / name, name))
    registered(path, "parts", *found)
    names = [piece.name for piece in register.load(path)["parts"].files]
    assert names == ["sums.md5", "T_part_aa", "T_part_ab", "T_part_*"]
    old, new = TEXT.splitlines(), path.read_text().splitlines()
    assert new[:28] == [*old[:27], new[27]] and new[27].startswith('      - {name: "sums.md5", bytes: 5, hash: "sha256:')
    assert [line[:27] for line in new[29:31]] == [f'      - {{name: "T_part_{part}",' for part in ("aa", "ab")]
    assert new[28] == old[28] and new[31:] == old[29:]
    assert registered(path, "parts", *found) == []


def test_what_differs_from_the_register_is_refused_and_the_register_stays(path, tmp_path):
    known = TEXT.replace("hash: unknown", "hash: md5:" + "0" * 32, 1)
    path.write_text(known)
    (tmp_path / "f").write_text("content")
    with pytest.raises(BadInput, match=r"the register says .* change the register by hand"):
        registered(path, "a", places.at(tmp_path / "f"))
    assert path.read_text() == known


def test_what_changed_since_it_came_is_not_recorded(path, tmp_path):
    (tmp_path / "f").write_text("content")
    manifest.write(tmp_path / "f.json", [tmp_path / "f"], facts={"source": "a"})
    (tmp_path / "f").write_text("changed")
    with pytest.raises(BadInput, match="not what its manifest measured"):
        registered(path, "a", places.at(tmp_path / "f"))
    assert path.read_text() == TEXT


def test_what_is_not_whole_is_not_recorded(path, tmp_path):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a", "content" * 100)
    (tmp_path / "f.zip").write_bytes(packed.getvalue()[:-10])
    with pytest.raises(BadInput, match="fetch it again"):
        registered(path, "a", places.at(tmp_path / "f.zip"))
    assert path.read_text() == TEXT


def test_a_layout_that_cannot_be_edited_in_place_is_left_alone(path, tmp_path):
    aliased = TEXT.replace("bytes: unknown", "bytes: &u unknown", 1).replace("hash: unknown", "hash: *u", 1)
    path.write_text(aliased)
    assert yaml.safe_load(aliased) == yaml.safe_load(TEXT)
    (tmp_path / "f").write_text("content")
    with pytest.raises(BadInput, match="write by hand"):
        registered(path, "a", places.at(tmp_path / "f"))
    assert path.read_text() == aliased
