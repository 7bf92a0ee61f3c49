"""The winner leaves the ledger and is used: weights, ONNX, predictions, attention maps.

export      The winner leaves: a folder with one config, one weights file, its scores and a README
weights     The weights file of a trained network: safetensors with what the network takes and
            tells
card        The front matter of an export's README, by which the Hugging Face Hub files a model
formats     The forms that a network leaves in beside its weights, by the words of `--format`
source      `attnsearch export --source`: the network as one readable Python file without
            attnsearch
program     Export as a program of `torch.export`, compared with the network it came from
onnx        Export to ONNX, compared with the network it came from
preprocess  Images as a user has them to the input of a trained network
models      Networks under names as timm has them, and the maps of their stages for other
            frameworks
inputs      A user's image files on their way to a trained network, one by one or cut into tiles
predict     What a trained network says of a user's images, as files: `attnsearch predict`
evaluate    What an export scores on data with labels or masks: `attnsearch evaluate`
pyfunc      An export as MLflow loads it
explain     Pictures of where a trained network looks, for any image: `attnsearch explain`
"""

from typing import TYPE_CHECKING

from attnsearch.blocks.face import face

if TYPE_CHECKING:
    from attnsearch.runs.exports.evaluate import Evaluated, Score, evaluate_export
    from attnsearch.runs.exports.explain import explain_images
    from attnsearch.runs.exports.export import CONFIG, WEIGHTS, export_study, load_export
    from attnsearch.runs.exports.inputs import find_images
    from attnsearch.runs.exports.models import Features, create_model, model_name
    from attnsearch.runs.exports.predict import Predicted, predict_images, segment_files
    from attnsearch.runs.exports.pyfunc import LOADER
    from attnsearch.runs.exports.weights import (
        Interface,
        pack_weights,
        read_weights,
        unpack_weights,
    )

face(__name__)
