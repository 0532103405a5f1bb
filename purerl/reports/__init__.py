"""A finished search as one HTML file, to be read in any browser without a network."""

from purerl.reports.cautions import cautions
from purerl.reports.page import write_html
from purerl.reports.population import population_cautions, write_population_html

__all__ = ["cautions", "population_cautions", "write_html", "write_population_html"]
