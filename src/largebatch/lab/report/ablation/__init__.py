"""Reports of an ablation, made from its folder alone: page, terminal's table, verdict, picture."""

from largebatch.lab.report.ablation.page import write_report
from largebatch.lab.report.ablation.standalone import figure_svg
from largebatch.lab.report.ablation.summary import summary, verdict_json

__all__ = ["figure_svg", "summary", "verdict_json", "write_report"]
