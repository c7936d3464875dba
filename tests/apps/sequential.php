<?php
// An app that knows no health URL, for PHP's built-in server, which serves one connection at a time.
if ($_SERVER['REQUEST_URI'] !== '/') {
    http_response_code(404);
}
echo "hello\n";
