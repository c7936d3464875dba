# An app that knows no health URL, for puma.
run lambda { |env|
  known = env['PATH_INFO'] == '/'
  [known ? 200 : 404, { 'content-type' => 'text/plain' }, [known ? "hello\n" : "no such page\n"]]
}
