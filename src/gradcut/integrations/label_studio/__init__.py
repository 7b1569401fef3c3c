"""A Label Studio ML backend: the masks of a classifier as predictions, and strokes that correct them.

Needs gradcut[web]. Label Studio's own packages are not needed: it talks over HTTP.
"""

from gradcut.integrations.label_studio.backend import Backend
from gradcut.integrations.label_studio.interface import Interface, read_interface
from gradcut.integrations.label_studio.photographs import Photographs
from gradcut.integrations.label_studio.server import create_app

__all__ = ["Backend", "Interface", "Photographs", "create_app", "read_interface"]
