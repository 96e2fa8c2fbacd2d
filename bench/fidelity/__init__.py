"""How close blends come to full prefill: methods measured on questions, teacher-forced, each at its cost."""
