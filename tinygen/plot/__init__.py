"""The figures of this house, in one style: images, maps of the plane, curves, diagrams, and films of them.

A figure is built from matplotlib's objects, not from pyplot, whose current figure and window system would be hidden state; and
matplotlib is imported when the first figure is drawn. Every function takes the path to write to; `film` has frames of them.
"""

from .animation import film
from .charts import approach, bands, curves, dots, occupation, parallel
from .diagrams import timeline, tree
from .images import image_grid
from .maps import clouds, density, landscape, lines_of_grid, plane, scatter, warped_grid
from .style import DPI, PALETTE

__all__ = [
    "DPI", "PALETTE", "approach", "bands", "clouds", "curves", "density", "dots", "film", "image_grid", "landscape",
    "lines_of_grid", "occupation", "parallel", "plane", "scatter", "timeline", "tree", "warped_grid",
]  # fmt: skip
