"""Checkpoints are read without running them, exactly or not at all; sentences become the ids that BERT's tokeniser gives."""

import os
import pickle
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Reference
from tokenizers import decoders, models, normalizers, pre_tokenizers

from workflow_scripts import console
from workflow_scripts.console import BadInput
from workflow_scripts.track import checkpoints, convert, load_tracker, vocabulary
from workflow_scripts.track.networks import dutrack
from workflow_scripts.track.texts import GRAMMAR, Tokenizer, small_vocabulary

VOCABULARY = Path(__file__).parent / "golden" / "standin_vocab.txt"


class Settings:
    """Stands for the authors' own classes, whose instances their checkpoints hold."""

    def __init__(self) -> None:
        self.batch = 8


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch '{self.path}'",)


@pytest.fixture
def network() -> dutrack.DUTrack:
    torch.manual_seed(3)
    return dutrack.build(dutrack.VARIANTS["dutrack_small"])


def authors_file(path: Path, network: torch.nn.Module, **more: object) -> Path:
    """A file as their training writes it."""
    optimizer = {"state": {0: {"exp_avg": torch.zeros(4)}}}
    torch.save({"epoch": 1, "net": network.state_dict(), "optimizer": optimizer, "settings": Settings(), **more}, path)
    return path


def test_an_authors_checkpoint_gives_its_weights(tmp_path: Path, network: dutrack.DUTrack) -> None:
    state = checkpoints.read_checkpoint(authors_file(tmp_path / "a.pth.tar", network))
    expected = network.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[k], expected[k]) and state[k].dtype == expected[k].dtype for k in expected)


def test_nothing_in_a_checkpoint_is_executed(tmp_path: Path, network: dutrack.DUTrack) -> None:
    mark = tmp_path / "executed"
    path = authors_file(tmp_path / "evil.pth.tar", network, stats=Evil(mark), **{"actor": [Evil(mark)]})
    checkpoints.read_checkpoint(path)
    assert not mark.exists()
    torch.load(path, weights_only=False)  # the file is as evil as it claims
    assert mark.exists()


@pytest.mark.parametrize(
    "code",
    [
        b"cbuiltins\neval\n(V__import__('os').system('touch MARK')\ntR.",
        b"cbuiltins\ngetattr\n(cos\nsystem\nV__call__\ntR(Vtouch MARK\ntR.",
        b"ctorch._utils\n_rebuild_tensor_v2\nN}(V__code__\nNu\x86b.",
        b"cposix\nsystem\n(Vtouch MARK\ntR0}.",
    ],
)
def test_a_pickle_of_commands_is_refused_with_one_sentence(tmp_path: Path, code: bytes) -> None:
    mark = tmp_path / "executed"
    path = tmp_path / "evil.pth.tar"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + code.replace(b"MARK", str(mark).encode()))
    with pytest.raises(BadInput, match=r"evil\.pth\.tar"):
        checkpoints.read_checkpoint(path)
    assert not mark.exists()


def test_storages_that_no_weight_uses_are_not_read(tmp_path: Path, network: dutrack.DUTrack) -> None:
    whole, thin = authors_file(tmp_path / "whole", network), tmp_path / "thin"
    with zipfile.ZipFile(whole) as archive, zipfile.ZipFile(thin, "w") as copy:
        names = [n for n in archive.namelist() if "/data/" in n]
        optimizer = max(names, key=lambda n: int(n.rsplit("/", 1)[1]))
        for name in archive.namelist():
            if name != optimizer:
                copy.writestr(name, archive.read(name))
    assert checkpoints.read_checkpoint(thin).keys() == network.state_dict().keys()


def test_views_types_and_parameters_survive(tmp_path: Path) -> None:
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    state = {
        "transposed": base.t(),
        "part": base[1:3, 2:5],
        "half": base.half(),
        "bfloat": base.bfloat16(),
        "count": torch.tensor(7),
        "flags": base > 3,
        "parameter": torch.nn.Parameter(base * 2),
        "empty": torch.empty(0, 3),
    }
    torch.save({"net": state}, tmp_path / "a.pth.tar")
    found = checkpoints.read_checkpoint(tmp_path / "a.pth.tar")
    for name, tensor in state.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor.detach()), name


def test_unreadable_files_end_in_one_sentence_that_names_them(tmp_path: Path, network: dutrack.DUTrack) -> None:
    whole = authors_file(tmp_path / "whole.pth.tar", network).read_bytes()
    for name, content in {
        "empty": b"",
        "text": b"not found",
        "truncated": whole[: len(whole) // 2],
        "pickle": pickle.dumps({"net": 1}),
        "flipped": whole[:9000] + bytes(200) + whole[9200:],
    }.items():
        path = tmp_path / f"{name}.pth.tar"
        path.write_bytes(content)
        with pytest.raises(BadInput, match=name) as caught:
            checkpoints.read_checkpoint(path)
        assert "\n" not in str(caught.value)
    torch.save({"teacher": network.state_dict()}, tmp_path / "other.pth.tar")
    with pytest.raises(BadInput, match="no weights under 'net'"):
        checkpoints.read_checkpoint(tmp_path / "other.pth.tar")
    with pytest.raises(BadInput, match="no such checkpoint"):
        checkpoints.read_checkpoint(tmp_path / "missing.pth.tar")
    (tmp_path / "w.safetensors").write_bytes(b"12345678{}")
    with pytest.raises(BadInput, match="safetensors"):
        checkpoints.read_checkpoint(tmp_path / "w.safetensors")


def test_a_mismatch_names_every_kind_of_difference(network: dutrack.DUTrack) -> None:
    state = dict(network.state_dict())
    state["extra.weight"] = state.pop("backbone.norm.bias")
    state["backbone.pos_embed_x"] = torch.zeros(1, 144, 128)
    with pytest.raises(BadInput) as caught:
        checkpoints.load_exactly(network, state, "file.pth.tar")
    message = str(caught.value)
    assert "1 missing: backbone.norm.bias" in message
    assert "1 unexpected: extra.weight" in message
    assert "backbone.pos_embed_x [1, 144, 128] instead of [1, 64, 128]" in message
    assert "dutrack_small" in message


def test_buffers_of_older_libraries_are_no_mismatch(network: dutrack.DUTrack) -> None:
    state = {**network.state_dict(), "backbone.descript_embedding.position_ids": torch.zeros(1, 40)}
    checkpoints.load_exactly(network, state, "file")


def test_a_saved_folder_gives_the_network_back(tmp_path: Path, network: dutrack.DUTrack) -> None:
    checkpoints.save(tmp_path, network, small_vocabulary())
    again = checkpoints.load(tmp_path)
    assert again.config == network.config
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), network.state_dict().values(), strict=True))
    assert (tmp_path / "vocabulary.txt").read_text().splitlines() == small_vocabulary()


def convert_command(monkeypatch: pytest.MonkeyPatch, **flags: object) -> None:
    arguments = [part for name, value in flags.items() for part in (f"--{name}", str(value))]
    monkeypatch.setattr(sys, "argv", ["convert", *arguments])
    console.run(convert.main)


def test_a_checkpoint_is_converted_once_and_loads_as_a_tracker(
    tmp_path: Path, network: dutrack.DUTrack, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = authors_file(tmp_path / "a.pth.tar", network)
    words = tmp_path / "words.txt"
    words.write_text("\n".join(small_vocabulary()))
    convert_command(
        monkeypatch, checkpoint=path, variant="dutrack_small", vocabulary=words, output=tmp_path / "out",
        manifest=tmp_path / "out.json",
    )  # fmt: skip
    tracker = load_tracker("dutrack", weights=tmp_path / "out")
    assert torch.equal(tracker.network.box_head.conv3_ctr.bias, network.box_head.conv3_ctr.bias)
    assert (tmp_path / "out.json").is_file()


def test_a_checkpoint_of_another_variant_leaves_nothing_behind(
    tmp_path: Path, network: dutrack.DUTrack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    larger = dutrack.DUTrack(replace(network.config, search_size=192, variant="dutrack_other"))
    path = authors_file(tmp_path / "other.pth.tar", larger)
    with pytest.raises(SystemExit) as caught:
        convert_command(monkeypatch, checkpoint=path, variant="dutrack_small", output=tmp_path / "out")
    assert caught.value.code == 1
    assert "backbone.pos_embed_x [1, 144, 128] instead of [1, 64, 128]" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other.pth.tar"]


def reference_tokenizer(cased: bool) -> Reference:
    """BERT's tokenisation by the library of its authors' distribution."""
    words = {w: i for i, w in enumerate(VOCABULARY.read_text().splitlines())}
    reference = Reference(models.WordPiece(words, unk_token="[UNK]", max_input_chars_per_word=100))
    reference.normalizer = normalizers.BertNormalizer(lowercase=not cased)
    reference.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    reference.decoder = decoders.WordPiece()
    return reference


# Scripts and punctuation that sentences may hold; libraries disagree on characters newer than their Unicode tables.
CHARACTERS = st.one_of(
    st.characters(max_codepoint=0x5FF, exclude_categories=["Cn"]),
    st.characters(min_codepoint=0x2000, max_codepoint=0x206F, exclude_categories=["Cn"]),
    st.characters(min_codepoint=0x4E00, max_codepoint=0x4E40),
)
WORDS = ("a", "Red", "square,", "moving", "background", "déjà", "x'y", "小red", "qqq", "\t", "shiped", "—")
SENTENCES = st.one_of(st.text(CHARACTERS, max_size=60), st.lists(st.sampled_from(WORDS)).map(" ".join))


@pytest.mark.parametrize("cased", [False, True])
@given(sentence=SENTENCES)
def test_ids_are_those_of_the_reference_tokeniser(cased: bool, sentence: str) -> None:
    ours = Tokenizer.from_file(VOCABULARY, cased)
    pieces = reference_tokenizer(cased).encode(sentence, add_special_tokens=False).ids[:14]
    expected = [101, *pieces, 102]
    assert ours([sentence])[0].tolist() == expected + [0] * (16 - len(expected))


def test_a_sentence_is_always_sixteen_ids() -> None:
    ids = Tokenizer.from_file(VOCABULARY)(["", "red " * 200, "the red square"])
    assert ids.shape == (3, 16)
    assert ids.dtype == np.int64
    assert ids[0].tolist() == [101, 102] + [0] * 14
    assert ids[1, -1] == 102


def test_the_small_vocabulary_knows_the_grammar_and_the_sentences_own_words() -> None:
    tokenizer = Tokenizer(small_vocabulary(["track the mauve circle"]))
    unknown = tokenizer.ids["[UNK]"]
    assert unknown not in tokenizer([" ".join(GRAMMAR[:14]), " ".join(GRAMMAR[14:28]), "the mauve star"])
    assert unknown in tokenizer(["the pink star"])


def test_a_vocabulary_without_special_words_is_refused(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("red\ngreen\n")
    with pytest.raises(BadInput, match=r"words\.txt lacks \[PAD\], \[UNK\], \[CLS\], \[SEP\]"):
        Tokenizer.from_file(tmp_path / "words.txt")
    with pytest.raises(BadInput, match="no such vocabulary"):
        Tokenizer.from_file(tmp_path / "none.txt")


@pytest.mark.parametrize("truth", ["cased", "uncased"])
def test_the_word_table_tells_its_vocabulary(truth: str) -> None:
    rng = np.random.default_rng(5)
    filler = [f"w{i}" for i in range(1500)]
    vocabularies = {
        "uncased": Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *filler[:700], *vocabulary.COMMON, *filler[700:]]),
        "cased": Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *filler[:300], *vocabulary.COMMON, *filler[300:1200]], True),
    }
    table = rng.normal(0, 0.02, (1600, 512))
    learnt = [vocabularies[truth].ids[word] for word in (*vocabulary.COMMON[3:], *filler[:90], *filler[-40:]) if
              word in vocabularies[truth].ids]  # fmt: skip
    table[learnt] += rng.normal(0, 0.02, (len(learnt), 512))
    result = vocabulary.choose(table, vocabularies)
    assert result["vocabulary"] == truth
    assert result["rows_trained"] == len(learnt)


def test_a_table_without_training_tells_no_vocabulary() -> None:
    table = np.random.default_rng(5).normal(0, 0.02, (200, 512))
    words = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *vocabulary.COMMON])
    assert vocabulary.choose(table, {"uncased": words, "cased": words})["vocabulary"] is None
