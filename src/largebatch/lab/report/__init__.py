"""Reports of a comparison, made from its run folders alone.

``write_report`` makes the page, ``summary_table`` the terminal's table, ``figure_svg`` a README's
picture; all three say the same numbers, computed in ``rows``.
"""

from largebatch.lab.report.page import write_report
from largebatch.lab.report.standalone import figure_svg
from largebatch.lab.report.summary import summary_table

__all__ = ["figure_svg", "summary_table", "write_report"]
