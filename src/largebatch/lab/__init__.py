"""The lab: tasks, models, runs, comparisons and reports. Needs the extra ``lab``."""
