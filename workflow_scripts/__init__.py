"""TrackGraph: the study of vision-language tracking as one graph. A sub-package a stage, above a ground floor that knows none."""
