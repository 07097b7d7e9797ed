"""Which vocabulary was a DUTrack checkpoint trained with, the cased or the uncased one? The weights tell.

    python -m workflow_scripts.track.vocabulary --checkpoint DUTrack_ep0001.pth.tar \\
        --uncased bert-base-uncased/vocab.txt --cased bert-base-cased/vocab.txt

Rows of the word table that no training sentence touched keep the norm of their initialisation, which scatters by only
1/sqrt(2 D) of itself. A row whose norm lies far outside was trained. Common words of descriptions must be trained rows:
the vocabulary under which more of them are is the right one. A trained row beyond the cased vocabulary rules that out.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workflow_scripts import console
from workflow_scripts.console import BadInput
from workflow_scripts.track.checkpoints import read_checkpoint
from workflow_scripts.track.texts import Tokenizer

TABLE = "backbone.descript_embedding.word_embeddings.weight"
# fmt: off
COMMON = (
    "a", "the", "of", "in", "on", "with", "and", "man", "person", "woman", "car", "dog", "bird", "boat", "white",
    "black", "red", "blue", "green", "yellow", "small", "large", "running", "walking", "moving", "flying",
    "standing", "water", "road", "grass", "sky", "ground", "left", "right", "field", "street",
)
# fmt: on
SCATTERS = 6  # deviations beyond which a norm is no longer chance


def trained_rows(table: NDArray[np.floating]) -> NDArray[np.bool_]:
    """[V] True where the norm of a row of [V,D] cannot be that of an untouched one; most rows must be untouched."""
    norms = np.linalg.norm(np.asarray(table, np.float64), axis=1)
    usual = np.median(norms)
    return np.abs(norms - usual) > SCATTERS * usual / np.sqrt(2 * table.shape[1])


def choose(table: NDArray[np.floating], vocabularies: dict[str, Tokenizer]) -> dict[str, object]:
    """Share of common words that were trained under each vocabulary, rows trained beyond its end, and the choice."""
    trained = trained_rows(table)
    shares, beyond = {}, {}
    for name, tokenizer in vocabularies.items():
        ids = [tokenizer.ids[word] for word in COMMON if word in tokenizer.ids and tokenizer.ids[word] < len(trained)]
        shares[name] = round(float(trained[ids].mean()), 4) if ids else 0.0
        beyond[name] = int(trained[len(tokenizer) :].sum())
    possible = [name for name in vocabularies if beyond[name] == 0] or list(vocabularies)
    ranked = sorted(possible, key=lambda name: -shares[name])
    clear = shares[ranked[0]] > 0.5 and (len(ranked) == 1 or shares[ranked[0]] - shares[ranked[1]] > 0.2)
    return {
        "vocabulary": ranked[0] if clear else None,
        "common_words_trained": shares,
        "rows_trained_beyond_the_vocabulary": beyond,
        "rows_trained": int(trained.sum()),
        "rows": len(trained),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--checkpoint", type=Path, required=True, help="authors' .pth.tar, or a folder of ours")
    parser.add_argument("--uncased", type=Path, required=True, help="vocabulary file of bert-base-uncased")
    parser.add_argument("--cased", type=Path, required=True, help="vocabulary file of bert-base-cased")
    arguments = parser.parse_args()
    state = read_checkpoint(arguments.checkpoint)
    if TABLE not in state:
        raise BadInput(f"{arguments.checkpoint} has no {TABLE}: give a checkpoint of an official DUTrack.")
    vocabularies = {
        "uncased": Tokenizer.from_file(arguments.uncased),
        "cased": Tokenizer.from_file(arguments.cased, cased=True),
    }
    result = choose(state[TABLE].float().numpy(), vocabularies)
    print(json.dumps(result, indent=1))
    if result["vocabulary"] is None:
        raise BadInput(f"{arguments.checkpoint}: the word table fits neither vocabulary clearly; compare the figures above.")


if __name__ == "__main__":
    console.run(main)
