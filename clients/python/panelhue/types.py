"""What the client gives and takes, from one place: frozen dataclasses that mirror the contract.

Series, references and the colouriser have a module each; what both services speak of has one too.
"""

from __future__ import annotations

from panelhue.colorizer_types import Accepted as Accepted
from panelhue.colorizer_types import Backend as Backend
from panelhue.colorizer_types import ColorizeOptions as ColorizeOptions
from panelhue.colorizer_types import ColorizerInfo as ColorizerInfo
from panelhue.colorizer_types import ColourPages as ColourPages
from panelhue.colorizer_types import Determinism as Determinism
from panelhue.colorizer_types import Event as Event
from panelhue.colorizer_types import Failed as Failed
from panelhue.colorizer_types import Finished as Finished
from panelhue.colorizer_types import Hint as Hint
from panelhue.colorizer_types import Luma as Luma
from panelhue.colorizer_types import PageFile as PageFile
from panelhue.colorizer_types import PageResult as PageResult
from panelhue.colorizer_types import Preview as Preview
from panelhue.colorizer_types import Progress as Progress
from panelhue.colorizer_types import Queued as Queued
from panelhue.colorizer_types import SeriesContext as SeriesContext
from panelhue.common_types import NO_SPACE as NO_SPACE
from panelhue.common_types import Bound as Bound
from panelhue.common_types import Box as Box
from panelhue.common_types import Context as Context
from panelhue.common_types import Corner as Corner
from panelhue.common_types import Failure as Failure
from panelhue.common_types import Hit as Hit
from panelhue.common_types import Origin as Origin
from panelhue.common_types import Picture as Picture
from panelhue.common_types import Provenance as Provenance
from panelhue.common_types import Source as Source
from panelhue.common_types import Timing as Timing
from panelhue.common_types import read_source as read_source
from panelhue.reference_types import AddResult as AddResult
from panelhue.reference_types import AddStatus as AddStatus
from panelhue.reference_types import ImportedReference as ImportedReference
from panelhue.reference_types import Pixels as Pixels
from panelhue.reference_types import Reference as Reference
from panelhue.reference_types import ReferenceFile as ReferenceFile
from panelhue.series_types import EmbeddingSpace as EmbeddingSpace
from panelhue.series_types import IndexKind as IndexKind
from panelhue.series_types import IndexOptions as IndexOptions
from panelhue.series_types import Migration as Migration
from panelhue.series_types import Precision as Precision
from panelhue.series_types import Quota as Quota
from panelhue.series_types import RetrievalInfo as RetrievalInfo
from panelhue.series_types import Series as Series
from panelhue.series_types import SeriesStats as SeriesStats
from panelhue.series_types import Swatch as Swatch
