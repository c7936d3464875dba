# An app that knows no health URL, on WEBrick.
require 'webrick'

server = WEBrick::HTTPServer.new(
  BindAddress: '127.0.0.1', Port: ARGV[0].to_i, AccessLog: [], Logger: WEBrick::Log.new(File::NULL)
)
server.mount_proc('/') do |request, response|
  response.status = request.path == '/' ? 200 : 404
  response.body = "hello\n"
end
server.start
