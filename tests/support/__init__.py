"""What tests share: real servers, processes, browsers, tolerances."""
