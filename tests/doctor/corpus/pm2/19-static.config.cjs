// expect-anywhere: uncoordinated
module.exports = {
  apps: [
    { name: 'docs', script: 'npx', args: 'serve -s build -l 5000', env: { NODE_ENV: 'production' } },
    { name: 'queue', script: 'artisan', args: 'queue:work --tries=3', interpreter: 'php', instances: 2 },
    { name: 'scheduler', script: 'artisan', args: 'schedule:work', interpreter: 'php' },
  ],
};
