"""TrackGraph: the study of vision-language tracking as one graph. A package a stage, above a ground floor that knows none."""
