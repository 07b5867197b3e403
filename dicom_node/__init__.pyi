from typing import Final

from dicom_node.analysis.bundle import LoadedBundle as LoadedBundle
from dicom_node.analysis.bundle import build_report as build_report
from dicom_node.analysis.bundle import build_results as build_results
from dicom_node.analysis.bundle import list_bundles as list_bundles
from dicom_node.analysis.bundle import load_bundle as load_bundle
from dicom_node.analysis.bundle import score as score
from dicom_node.analysis.evaluation import evaluate as evaluate
from dicom_node.analysis.films import read_film as read_film
from dicom_node.analysis.heat_maps import HeatMap as HeatMap
from dicom_node.analysis.heat_maps import draw_heat_maps as draw_heat_maps
from dicom_node.analysis.sending import send as send
from dicom_node.analysis.similar_cases import find_similar_cases as find_similar_cases
from dicom_node.errors import ConfigurationError as ConfigurationError
from dicom_node.errors import NodeError as NodeError
from dicom_node.errors import PeerError as PeerError

MODEL_NAME: Final[str]
