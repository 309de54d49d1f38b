"""Everything the notebooks call: from lines of text to clean tables and eight answers.

The modules follow a record on its way: ``schemas`` (what is known of it), ``objects`` and ``reading`` (bytes of
the sink to lines with a position), ``quality`` (which lines are records), ``cleaning`` (records to rows),
``merging`` (one row per post, newest wins), ``tables`` and ``ledger`` (what is written, and counted),
``batch`` and ``streaming`` (the two ways in), ``expectations`` (the gate), ``questions``, ``answers`` and ``charts``
(the way out), ``maintenance`` (upkeep).
"""
