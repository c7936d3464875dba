// The environment's overlays count: with --env production it keeps connections for 3 s only.
// expect-anywhere: uncoordinated, keep-alive
module.exports = { apps: [{
  name: 'checkout', script: 'dist/index.js', instances: 1, exec_mode: 'fork', kill_timeout: 8000,
  env: { NODE_ENV: 'development' },
  env_staging: { NODE_ENV: 'staging', PORT: 3001 },
  env_production: { NODE_ENV: 'production', PORT: 3000, KEEP_ALIVE_TIMEOUT: 3000 },
}] };
