// expect-anywhere: uncoordinated
module.exports = { apps: [{ name: 'rest', script: './server.js', exec_mode: 'fork', instances: 4, increment_var: 'PORT', env: { PORT: 8080 }, kill_timeout: 10000 }] };
