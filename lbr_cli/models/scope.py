"""Models that lbr does not support by design, with the reason; docs/models.md lists them.

A score of lbr depends on one query and one document and is read from one forward pass over text.
"""

from __future__ import annotations

from lbr_cli.models.json_file import JsonFile

LISTWISE = "its score of a document depends on the other documents (listwise), and lbr scores each pair alone"
GENERATES = "it generates a reasoning text before its answer, and lbr reads a score from one forward pass"
IMAGES = "it is a model of images and text, and lbr reads text only"
HINT = "docs/models.md lists the models that are out of scope"

# hub id -> reason
OUT_OF_SCOPE = {
    **dict.fromkeys(("jinaai/jina-reranker-v3", "jinaai/jina-reranker-v3.5", "ByteDance/ListConRanker"), LISTWISE),
    **dict.fromkeys(("castorini/rank_vicuna_7b_v1", "castorini/rank_zephyr_7b_v1_full"), LISTWISE),
    **{
        f"jhu-clsp/rank1-{size}": GENERATES
        for size in ("0.5b", "1.5b", "3b", "7b", "14b", "32b", "llama3-8b", "mistral-2501-24b")
    },
    **dict.fromkeys(("jinaai/jina-reranker-m0", "nvidia/llama-nemotron-rerank-vl-1b-v2"), IMAGES),
    **dict.fromkeys(("Qwen/Qwen3-VL-Reranker-2B", "Qwen/Qwen3-VL-Reranker-8B"), IMAGES),
}
# class of "architectures" in config.json -> reason
ARCHITECTURES = {
    "JinaForRanking": LISTWISE,
    "JinaVLForRanking": IMAGES,
    "Qwen2VLForConditionalGeneration": IMAGES,
    "Qwen2_5_VLForConditionalGeneration": IMAGES,
    "Qwen3VLForConditionalGeneration": IMAGES,
}


def check_scope(config: JsonFile) -> None:
    """Raise MissingError for the configuration of a model that is out of scope."""
    for name in config.strings("architectures"):
        if name in ARCHITECTURES:
            raise config.error("architectures", f"is {name}, which is not supported: {ARCHITECTURES[name]}", hint=HINT)
