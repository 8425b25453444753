"""A network of transformers as a judge: it classifies images, detects objects, or answers questions about them."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ..core.errors import InvalidSetting, UnsupportedModel, shown
from ..core.laboratory import Asked, Judge, Judged, Laboratory
from ..features.shared.hub import Network, load_network, loading, network_config, network_folder
from ..features.shared.network import prepared
from .shared.probabilities import ProbabilityJudge, Vocabulary, warn_of_unknown

WHAT = "the judge hub"
BATCH = 16
ANSWERS = ("yes", "no")
KINDS = {
    "ForImageClassification": "AutoModelForImageClassification",
    "ForObjectDetection": "AutoModelForObjectDetection",
    "ViltForQuestionAnswering": "ViltForQuestionAnswering",
    "BlipForQuestionAnswering": "BlipForQuestionAnswering",
}
"""How the name of an architecture ends -> the class of transformers that loads it."""
TAKEN = (
    "a network that classifies images (...ForImageClassification), detects objects (...ForObjectDetection) or answers questions "
    "(ViltForQuestionAnswering, BlipForQuestionAnswering)"
)
PLURALS = ("people", "children", "men", "women", "mice", "feet", "teeth", "geese")

Probabilities = Callable[[Tensor], Mapping[str, Tensor]]


@dataclass(frozen=True)
class HubNetwork(Laboratory):
    """A network of the hub as a judge, by what its configuration says that it is.

    A network that classifies images gives p(class | image): a softmax, or a sigmoid per class if it was trained on several
    classes per image. One that detects objects gives each class the score of its surest box. One that answers questions is
    asked "is there a hat in the picture?", and gives

        p(yes) / (p(yes) + p(no))

    so that it takes any word. No code of the hub is run, and only safetensors are read.

    Args:
        model: a folder that ``save_pretrained`` wrote, or a hub id.
    """

    name = "hub"

    model: str

    def __post_init__(self) -> None:
        if not isinstance(self.model, str) or not self.model.strip():
            raise InvalidSetting("model", self.model, "a folder or a hub id like owner/model")

    def refuses(self, model: Judged, asked: Asked) -> str | None:
        return None

    def judge(self, model: Judged, asked: Asked) -> Judge:
        """The judge.

        Raises:
            UnsupportedModel: the network is not found, damaged, or does none of this.
            InvalidSetting: a watched word that it does not know; a network that answers questions is given none to ask.
        """
        kind = _kind(self.model)
        network = load_network(WHAT, self.model, KINDS[kind])
        if kind.endswith("QuestionAnswering"):
            vocabulary = _open_words(asked)
            found = _answers_of(kind, network, vocabulary)
        else:
            labels = [str(label) for _, label in sorted(network.model.config.id2label.items())]
            vocabulary = Vocabulary.of(tuple(dict.fromkeys(labels)), asked)
            if not vocabulary.names:
                raise InvalidSetting(
                    "watch", asked.watch, f"some of what {self.model} knows: {', '.join(labels[:20])}, ..."
                )
            warn_of_unknown(self.model, asked, vocabulary)
            found = _classified(network, labels) if kind == "ForImageClassification" else _detected(network, labels)
        return ProbabilityJudge(self.model, vocabulary, found, batch=BATCH)


def _kind(name: str) -> str:
    folder = network_folder(WHAT, name)
    architectures = network_config(WHAT, folder).get("architectures")
    first = str(architectures[0]) if isinstance(architectures, list) and architectures else "network without a name"
    kind = next((end for end in KINDS if first.endswith(end)), None)
    if kind is None:
        other = "; the judges clip and siglip take it" if first in ("CLIPModel", "SiglipModel") else ""
        raise UnsupportedModel(f"{WHAT} cannot use {shown(name)}: it is a {first}, but must be {TAKEN}{other}.")
    return kind


def _open_words(asked: Asked) -> Vocabulary:
    """Every word may be asked for."""
    concepts = _words(",".join(asked.negative_prompts).split(","))
    others = tuple(word for word in _words(asked.watch or ()) if word not in concepts)
    if not (concepts or others):
        raise InvalidSetting("watch", None, "words to ask for, as there is no negative prompt")
    return Vocabulary((*concepts, *others), concepts, others)


def _words(texts: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text.strip() for text in texts if text.strip()))


def question(word: str) -> str:
    """What a network is asked about a word.

    >>> question("hat"), question("a red hat"), question("people"), question("umbrella")
    ('is there a hat in the picture?', 'is there a red hat in the picture?', 'are there people in the picture?', 'is there an umbrella in the picture?')
    """
    last = word.split()[-1].lower()
    if word.split()[0].lower() in ("a", "an", "the", "any"):
        return f"is there {word} in the picture?"
    if last in PLURALS or (last.endswith("s") and not last.endswith(("ss", "us", "is"))):
        return f"are there {word} in the picture?"
    return f"is there {'an' if word[0].lower() in 'aeiou' else 'a'} {word} in the picture?"


def _by_name(labels: list[str], values: Tensor) -> dict[str, Tensor]:
    """Columns by label, ``[n]``; of a label that several columns have, the largest."""
    found: dict[str, Tensor] = {}
    for place, label in enumerate(labels):
        found[label] = torch.maximum(found[label], values[:, place]) if label in found else values[:, place]
    return found


def _classified(network: Network, labels: list[str]) -> Probabilities:
    several = network.model.config.problem_type == "multi_label_classification"

    @torch.no_grad()
    def probabilities(images: Tensor) -> Mapping[str, Tensor]:
        logits = network.model(**prepared(network.processor, images)).logits.double()
        return _by_name(labels, logits.sigmoid() if several else logits.softmax(1))

    return probabilities


def _detected(network: Network, labels: list[str]) -> Probabilities:
    @torch.no_grad()
    def probabilities(images: Tensor) -> Mapping[str, Tensor]:
        outputs = network.model(**prepared(network.processor, images))
        surest = torch.zeros(len(images), len(labels), dtype=torch.float64)
        boxes = network.processor.post_process_object_detection(outputs, threshold=0.0)
        for row, found in zip(surest, boxes, strict=True):
            row.scatter_reduce_(0, found["labels"], found["scores"].double(), "amax")
        return _by_name(labels, surest)

    return probabilities


@lru_cache(maxsize=2)
def _tokenizer(network: Network) -> Any:
    with loading(WHAT):
        return importlib.import_module("transformers").AutoTokenizer.from_pretrained(
            network.folder, local_files_only=True
        )


def _answers_of(kind: str, network: Network, vocabulary: Vocabulary) -> Probabilities:
    tokenizer = _tokenizer(network)
    answer = _vilt(network) if kind.startswith("Vilt") else _blip(network, tokenizer)

    @torch.no_grad()
    def probabilities(images: Tensor) -> Mapping[str, Tensor]:
        pixels, found = prepared(network.processor, images), {}
        for word in vocabulary.names:
            words = tokenizer([question(word)] * len(images), return_tensors="pt")
            with torch.random.fork_rng(devices=[]):  # ViLT shuffles the places of an image, which changes no answer
                yes, no = answer(dict(words), pixels).double().unbind(1)
            found[word] = (yes - no).sigmoid()
        return found

    return probabilities


def _vilt(network: Network) -> Callable[[dict[str, Tensor], dict[str, Tensor]], Tensor]:
    """Logits of the answers yes and no, ``[n, 2]``, of a network that chooses among answers."""
    known = {str(label).lower(): place for place, label in network.model.config.id2label.items()}
    if not {*ANSWERS} <= {*known}:
        raise UnsupportedModel(
            f"{WHAT} cannot use this network: its answers have no yes and no; they are {', '.join(list(known)[:5])}, ..."
        )
    places = [known[one] for one in ANSWERS]
    return lambda words, pixels: network.model(**words, **pixels).logits[:, places]


def _blip(network: Network, tokenizer: Any) -> Callable[[dict[str, Tensor], dict[str, Tensor]], Tensor]:
    """Logits of the answers yes and no, ``[n, 2]``, of a network that writes its answer: of the answer's first token."""
    model = network.model
    places = [tokenizer(one, add_special_tokens=False).input_ids[0] for one in ANSWERS]

    def answer(words: dict[str, Tensor], pixels: dict[str, Tensor]) -> Tensor:
        image = model.vision_model(pixel_values=pixels["pixel_values"]).last_hidden_state
        read = model.text_encoder(
            input_ids=words["input_ids"], attention_mask=words["attention_mask"], encoder_hidden_states=image,
            encoder_attention_mask=torch.ones(image.shape[:2], dtype=torch.long),
        )[0]  # fmt: skip
        start = torch.full((len(image), 1), model.decoder_start_token_id)
        written = model.text_decoder(
            input_ids=start, encoder_hidden_states=read, encoder_attention_mask=words["attention_mask"]
        )
        return written.logits[:, -1, places]

    return answer
