// Four forks with one PORT: three of them fail.
// expect-anywhere: same-port, uncoordinated
module.exports = { apps: [{ name: 'rest', script: './bin/www', interpreter: 'node', exec_mode: 'fork', instances: 4, env: { PORT: 8080 } }] };
