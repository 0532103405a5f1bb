"""A finished search as one HTML file, to be read in any browser without a network."""

from purerl.reports.cautions import cautions
from purerl.reports.page import write_html

__all__ = ["cautions", "write_html"]
