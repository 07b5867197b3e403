from tests.support.tiny_pipeline import bench, settings, tiny_bundle

__all__ = ["bench", "settings", "tiny_bundle"]
